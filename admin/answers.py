"""What the API and `--json` answer, as types. The OpenAPI document is made from them, so the two cannot differ.

Times are ISO 8601 in UTC ("2026-01-31T12:00:00Z"); null means never, or not known yet.
"""

from __future__ import annotations

from typing import Literal

import msgspec

StandingWord = Literal["trusted", "self-signed", "valid", "expired", "not-yet-valid"]


class Candidate(msgspec.Struct, frozen=True):
    """A certificate in its place for one host name."""

    rank: int  # from 1, the best
    level: int  # 1 to 9
    level_words: str
    reason: str
    matched: str  # the exact name or wildcard it matched by; empty for the certificate made at first start
    fingerprint: str  # SHA-256 of the certificate, hexadecimal
    key_type: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    not_before: str
    not_after: str
    paths: tuple[str, ...]
    pinned: bool  # has one of the public keys that the listener asked about is pinned to


class Explanation(msgspec.Struct, frozen=True):
    """Every certificate that comes into question for a host name, best first; the default certificates at the end."""

    host: str | None  # in canonical form; null: no server name
    address: str | None  # what a client without server name connected to, where that was asked
    listener: str | None  # whose own default and pins were taken into account; null: nobody's
    order: str
    covered: bool  # whether some certificate carries the name or address; where none does, the default is served
    served: str | None  # fingerprint of the candidate served to a client that can use every key type
    candidates: tuple[Candidate, ...]


class Host(msgspec.Struct, frozen=True):
    """A host name of the configuration, and what serves it."""

    host: str
    listeners: tuple[str, ...]  # listeners with a route for it, or whose own default it is
    is_default: bool
    covered: bool
    served: Candidate | None


class Hosts(msgspec.Struct, frozen=True):
    """Every host name of the configuration. `otherwise` is what everybody else gets."""

    order: str
    hosts: tuple[Host, ...]
    otherwise: Candidate | None


class Selected(msgspec.Struct, frozen=True):
    """A name that a certificate is served for now."""

    name: str  # host name, wildcard or IP address
    level: int
    level_words: str
    preferred: bool  # false: only clients that cannot use the preferred certificate's key type get this one


class Certificate(msgspec.Struct, frozen=True):
    """A certificate with its private key, as found in the certificate directories."""

    fingerprint: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    subject: str  # RFC 4514
    issuer: str  # RFC 4514
    serial: str  # hexadecimal
    key_type: str
    not_before: str
    not_after: str
    days_left: float  # negative when expired
    standing: StandingWord
    reason: str
    self_signed: bool
    trusted: bool
    trusted_until: str | None  # null: no chain to a trusted root
    spki: str  # SHA-256 of the public key (SubjectPublicKeyInfo), hexadecimal
    pin_sha256: str  # the same in base64, as `pin` and `tls_pin` take it, and curl behind "sha256//"
    tlsa: str  # the data of a TLSA record with usage 3, selector 1, matching type 1 (RFC 6698)
    tlsa_records: tuple[str, ...]  # whole records, for its names at the ports of SMTP listeners
    chain_length: int  # intermediates sent with it
    chain: tuple[str, ...]  # their subjects (RFC 4514), in the order in which they are sent
    paths: tuple[str, ...]
    is_default: bool
    serves: tuple[Selected, ...]


class Served(msgspec.Struct, frozen=True):
    """What a name is served."""

    fingerprint: str
    level: int
    level_words: str
    not_after: str


class Change(msgspec.Struct, frozen=True):
    """A name that is served another certificate than before."""

    name: str  # a host name, wildcard or IP address; empty: who asks for a name that no certificate has
    before: Served | None
    after: Served | None


class Done(msgspec.Struct, frozen=True):
    """What was done, or would be; the workers notice within two seconds."""

    action: str
    fingerprint: str | None  # of the certificate that it was done with
    paths: tuple[str, ...]  # what was written
    changes: tuple[Change, ...]
    notes: tuple[str, ...]  # sentences for whoever did it


class Request(msgspec.Struct, frozen=True):
    """A request that waits for its certificate; the private key is kept with it."""

    id: str  # SHA-256 of the public key, hexadecimal
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    key_type: str
    made_at: str
    request: str  # PEM
    path: str


class Root(msgspec.Struct, frozen=True):
    """A certificate that chains may lead to."""

    fingerprint: str
    subject: str  # RFC 4514
    not_after: str
    added: bool  # by command, API or console, and can be removed so; others come from certificates.trust
    path: str | None


class RejectedFile(msgspec.Struct, frozen=True):
    """A file or directory that an operator should look at."""

    path: str
    reason: str
    message: str


class Certificates(msgspec.Struct, frozen=True):
    """Everything the certificate directories hold."""

    certificates: tuple[Certificate, ...]
    problems: tuple[RejectedFile, ...]
    waiting: tuple[str, ...]  # files with a certificate for which no private key was found
    default: Candidate | None


class Process(msgspec.Struct, frozen=True):
    """One of snigate's processes."""

    role: str
    number: int
    generation: int  # the generation it was started for
    pid: int | None  # null: it is being started again
    state: str  # "starting", "prepared", "ready", "draining" or "down"
    ready: bool
    started_at: str | None


class Listener(msgspec.Struct, frozen=True):
    """A listener and the addresses it is bound to."""

    name: str
    addresses: tuple[str, ...]
    protocol: str
    backend: str
    tls: str  # "implicit" or "starttls"; "none" where clients are only sent on to https
    plain_text: bool  # whether what clients say without TLS reaches the backend
    default: str | None  # the host name of its own default certificate
    pin: tuple[str, ...]  # in base64


class Store(msgspec.Struct, frozen=True):
    """The keeper's state."""

    change: int
    certificates: int
    problems: int
    waiting: int
    unverified: int  # certificates whose chain is still to be verified
    watching: bool  # false: file events cannot be had, directories are polled
    swaps: dict[str, int]
    last_scan: str | None
    last_swap: str | None


class Replica(msgspec.Struct, frozen=True):
    """What a worker holds. Equal digests mean equal certificates."""

    worker: int
    pid: int
    change: int
    certificates: int
    digest: str


class Status(msgspec.Struct, frozen=True):
    """How snigate is doing."""

    version: str
    started_at: str
    uptime_seconds: float
    ready: bool
    state: str  # "ready", "no-worker" or "draining"
    draining: bool
    generation: int  # the one that accepts connections
    worker_restarts: int
    admin: dict[str, str]  # "admin" and, where configured, "metrics": their addresses
    listeners: tuple[Listener, ...]
    processes: tuple[Process, ...]
    store: Store | None  # null: the keeper has not reported yet
    replicas: tuple[Replica, ...]


class Reloaded(msgspec.Struct, frozen=True):
    """What came of a reload."""

    applied: bool  # false: everything stays as it was
    generation: int  # the one that accepts connections now
    problems: tuple[str, ...]


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not answered (RFC 9457)."""

    title: str
    status: int
    detail: str
    field: str | None = None  # what of the request is to be corrected
