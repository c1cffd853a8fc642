"""Client certificates that a route asks for: by whose authorities, and which of them are revoked.

What files say is read once, when a generation of workers begins, and is a part of the policy from then on: two routes
with the same authorities share a policy, and files that change make another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from certstore import pem
from certstore.errors import CertstoreError
from config.model import Config, RouteConfig

MAX_FILE_SIZE = 4 << 20  # bytes

_Parsed = TypeVar("_Parsed")


class ClientAuthError(Exception):
    """A file of authorities or revocation lists cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """Whose certificates a client may or must show. Compared by content."""

    required: bool
    digest: str  # SHA-256 over everything below, hexadecimal
    authorities: tuple[bytes, ...] = field(compare=False, repr=False)  # certificates, DER
    revoked: tuple[bytes, ...] = field(compare=False, repr=False, default=())  # revocation lists, DER


def client_auth(route: RouteConfig) -> ClientAuth | None:
    """What a route's files say; None where it asks for no certificate. Raises ClientAuthError."""
    if route.client_auth == "off":
        return None
    assert route.client_ca is not None
    authorities = _read(route.client_ca, "CERTIFICATE", x509.load_der_x509_certificate)
    revoked = _read(route.client_crl, "X509 CRL", x509.load_der_x509_crl) if route.client_crl is not None else ()
    digest = hashlib.sha256()
    for one in (*authorities, *revoked):
        digest.update(hashlib.sha256(one).digest())
    return ClientAuth(route.client_auth == "required", digest.hexdigest(), authorities, revoked)


def client_auth_files(config: Config) -> Iterable[Path]:
    """The files whose change calls for a new generation, each once."""
    found: dict[Path, None] = {}
    for listener in config.listeners:
        for route in listener.routes:
            found.update(dict.fromkeys(path for path in (route.client_ca, route.client_crl) if path is not None))
    return found


def _read(path: Path, label: str, parse: Callable[[bytes], _Parsed]) -> tuple[bytes, ...]:
    """The DER of a PEM file's blocks of this label; each was parsed once."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
        if len(data) > MAX_FILE_SIZE:
            raise ClientAuthError(f"{path}: has more than {MAX_FILE_SIZE} bytes; leave out what no client needs")
        found = tuple(block.decode() for block in pem.split(pem.plain(data)) if block.label == label)
        for one in found:
            parse(one)
    except OSError as error:
        raise ClientAuthError(
            f"{path}: cannot be read ({error.strerror}); make it readable, or correct the route"
        ) from error
    except (CertstoreError, ValueError) as error:
        raise ClientAuthError(f"{path}: holds a {label} block that is broken ({error}); replace it") from error
    if not found:
        raise ClientAuthError(f"{path}: holds no {label} block in PEM; name a file that does")
    return found
