"""What `snigate check` finds: errors are to be corrected before serving, warnings to be thought about.

The configuration's own problems come from `config`; here is what needs certificates as well.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from admin import state
from admin.explanation import configured_hosts
from admin.listener_findings import findings_of_listeners
from admin.reading import Reading
from admin.text import count, iso, plain
from certstore.catalogue import CERTIFICATES, DEFAULT_NAME_FILE
from certstore.certified_key import CertifiedKey
from certstore.key_types import KeyTypes
from certstore.names import wildcard_of
from certstore.ranking import Order
from certstore.selector import Selection, Selector
from config import warnings as configuration_warnings
from config.errors import Problem
from config.model import WELCOME, Config, ListenerConfig
from proxy.backend_tls import unusable_authorities
from proxy.client_auth import ClientAuthError
from proxy.contexts import CertificateContexts, ContextError
from proxy.policy import Policy
from proxy.privileges import UserError, find_user, user_to_become
from proxy.routing import Action, RouteTable, route_tables

H2 = b"h2"
SAFE_RSA_BITS = 2048  # NIST SP 800-57 part 1, and the CA/Browser Forum's baseline requirements
NAMED = 5  # names spelt out in one message

_EVERY_CLIENT = (int(KeyTypes.ALL), *(int(one) for one in KeyTypes if one is not KeyTypes.ALL))


class Finding(msgspec.Struct, frozen=True):
    """One thing found. `where` is a file, a directory, or a configuration file with its key path."""

    severity: Literal["error", "warning"]
    where: str
    message: str


def of_configuration(problems: Iterable[Problem], severity: Literal["error", "warning"] = "error") -> list[Finding]:
    """The configuration's problems, or its warnings."""
    return [
        Finding(severity, plain(": ".join(part for part in (str(one.file), one.key) if part)), plain(one.message))
        for one in problems
    ]


def findings(reading: Reading) -> list[Finding]:
    """Everything about a configuration that could be loaded, and about the certificates it names; errors first."""
    try:
        tables = route_tables(reading.config)
    except ClientAuthError as error:
        return [Finding("error", _key(reading.config, "listeners"), plain(str(error)))]
    found = [
        *_user(reading.config),
        *_state_directory(reading.config),
        *_unresolvable(reading.config),
        *_files(reading),
        *_refused_by_openssl(reading, tables),
        *of_configuration(configuration_warnings.warnings(reading.config), "warning"),
        *_backends(reading.config),
        *_default(reading),
        *_listeners(reading),
        *_hosts(reading),
        *_order(reading),
        *_coalescing(reading, tables),
        *_h2_for_the_welcome_page(reading.config, tables),
        *_short_keys(reading),
    ]
    return sorted(found, key=lambda one: one.severity)


def _user(config: Config) -> Iterator[Finding]:
    """A user that is unknown; one that whoever checks could not become is a warning, since another may be to serve."""
    if config.server.user is None:
        return
    where = _key(config, "server.user")
    try:
        find_user(config.server.user)
    except UserError as error:
        yield Finding("error", where, plain(str(error)))
        return
    try:
        user_to_become(config.server.user)
    except UserError as error:
        yield Finding("warning", where, plain(str(error)))


def _state_directory(config: Config) -> Iterator[Finding]:
    if (found := state.trouble(config.server.state_directory)) is not None:
        yield Finding("error", _key(config, "server.state_directory"), plain(found))


def _unresolvable(config: Config) -> Iterator[Finding]:
    """Addresses to listen on whose host name does not resolve."""
    listened = [("admin.listen", config.admin.listen)]
    listened += [("metrics.listen", config.metrics.listen)] if config.metrics is not None else []
    listened += [(f"listeners[{one.name}].bind", address) for one in config.listeners for address in one.bind]
    for key, address in listened:
        try:
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            message = f"host {address.host} cannot be resolved ({error.strerror}); write an IP address of this machine"
            yield Finding("error", _key(config, key), message)


def _files(reading: Reading) -> Iterator[Finding]:
    directory = reading.config.server.state_directory
    told = (directory / CERTIFICATES, directory / DEFAULT_NAME_FILE) if state.trouble(directory) is not None else ()
    for one in reading.problems:
        if one.path not in map(str, told):  # follows from what was said about the state directory
            yield Finding("error", plain(one.path), plain(one.message))
    for path in sorted(reading.snapshot.waiting):
        yield Finding(
            "warning", plain(path), "no private key for this certificate was found; put its key into any directory"
        )


def _refused_by_openssl(reading: Reading, tables: Mapping[str, RouteTable]) -> Iterator[Finding]:
    """Load every pair as a worker would, under each profile in use."""
    policies = {Policy(policy.profile) for table in tables.values() for policy in table.policies}
    contexts = CertificateContexts(limit=1)
    for certificate in reading.certificates:
        for policy in sorted(policies, key=lambda one: one.profile):
            try:
                contexts.get(certificate, policy)
            except ContextError as error:
                message = f"{error} (profile {policy.profile}); the next best is served instead, replace it"
                yield Finding("error", ", ".join(map(plain, certificate.paths)), plain(message))


def _backends(config: Config) -> Iterator[Finding]:
    """Authorities of backends' certificates that serving could not begin with."""
    for name, message in unusable_authorities(config):
        yield Finding("error", _key(config, f"backends.{name}.tls_ca"), plain(message))


def _default(reading: Reading) -> Iterator[Finding]:
    name = reading.snapshot.default_name
    if name is not None and reading.selector.select(name, strict=True) is None:
        configured = reading.config.certificates.default is not None
        where = _key(reading.config, "certificates.default") if configured else _default_file(reading.config)
        yield Finding(
            "warning",
            where,
            f"no certificate covers {name}, so the one made at first start is the default; add a certificate for it",
        )


def _listeners(reading: Reading) -> Iterator[Finding]:
    for key, message in findings_of_listeners(reading):
        yield Finding("warning", _key(reading.config, key), message)


def _hosts(reading: Reading) -> Iterator[Finding]:
    """Hosts of routes that no certificate covers, or only one that has expired or is not valid yet."""
    for host, listeners in configured_hosts(reading.config).items():
        where = _key(reading.config, f"listeners[{listeners[0]}].routes")
        selection = reading.selector.select(host, strict=True)
        if selection is None:
            yield Finding(
                "warning", where, f"no certificate covers {host}: clients get the default one; add a certificate"
            )
        elif not selection.certificate.is_valid(reading.now):
            one = selection.certificate
            validity = f"valid from {iso(one.not_before)} to {iso(one.not_after)}"
            yield Finding(
                "warning", where, f"{host} is served certificate {one.fingerprint[:16]}, {validity}; renew it"
            )


def _order(reading: Reading) -> Iterator[Finding]:
    """Names that the two orders serve differently now. They can differ only where an exact match has expired."""
    orders: tuple[Order, Order] = ("kerio", "unexpired-first")
    selectors = [reading.selector_in(order) for order in orders]
    differing = []
    for name in sorted(reading.index.names):
        expired = any(not one.is_valid(reading.now) for one in reading.index.named(name))
        if expired and not name.startswith("*.") and _differ(name, *selectors):
            differing.append(name)
    if differing:
        used = reading.config.certificates.order
        yield Finding(
            "warning",
            _key(reading.config, "certificates.order"),
            f'"kerio" serves {_listed(differing)} an expired certificate of the exact name, "unexpired-first" a valid '
            f'wildcard certificate; the order in use is "{used}": renew the expired, or choose the order you mean',
        )


def _differ(name: str, first: Selector, second: Selector) -> bool:
    return any(
        _fingerprint(first.select(name, usable, strict=True)) != _fingerprint(second.select(name, usable, strict=True))
        for usable in _EVERY_CLIENT
    )


def _coalescing(reading: Reading, tables: Mapping[str, RouteTable]) -> Iterator[Finding]:
    """HTTP/2 clients send requests for any name a connection's certificate covers over it (RFC 9113 section 9.1.1).

    Where those names have different backends, requests reach the wrong one.
    """
    for listener in reading.config.listeners:
        if listener.redirects:
            continue
        table = tables[listener.name]
        told: set[str] = set()
        for route in table.routes:
            if route.action is not Action.TERMINATE or H2 not in route.policy.alpn:
                continue
            for host in route.hosts:
                selection = reading.selector.select(host, strict=True)
                if selection is None or selection.certificate.fingerprint in told:
                    continue
                backends = _backends_behind(selection.certificate, table)
                if len(backends) > 1:
                    told.add(selection.certificate.fingerprint)
                    yield _shared(reading.config, listener, selection.certificate, backends)


def _backends_behind(certificate: CertifiedKey, table: RouteTable) -> dict[str, list[str]]:
    """The backends that the certificate's names lead to, each with some of these names."""
    found: dict[str, list[str]] = {}
    names = dict.fromkeys(certificate.names)
    for route in table.routes:
        names.update(dict.fromkeys(host for host in route.hosts if wildcard_of(host) in certificate.names))
    for name in names:
        found.setdefault(table.find(name, (H2,)).backend, []).append(name)
    return found


def _shared(
    config: Config, listener: ListenerConfig, certificate: CertifiedKey, backends: Mapping[str, list[str]]
) -> Finding:
    split = "; ".join(f"{_listed(names)} to {backend}" for backend, names in backends.items())
    return Finding(
        "warning",
        _key(config, f"listeners[{listener.name}].routes"),
        f"certificate {certificate.fingerprint[:16]} covers names that go to different backends ({split}), and HTTP/2 "
        "clients may send requests for all of them over one connection, which has one backend; give each backend a "
        'certificate of its own, or leave "h2" out of alpn',
    )


def _h2_for_the_welcome_page(config: Config, tables: Mapping[str, RouteTable]) -> Iterator[Finding]:
    """Where HTTP/2 is agreed on and then not spoken."""
    for name, table in tables.items():
        for route in (table.otherwise, *table.routes):
            if route.action is Action.TERMINATE and route.backend == WELCOME and H2 in route.policy.alpn:
                yield Finding(
                    "warning",
                    _key(config, f"listeners[{name}].alpn"),
                    'offers "h2", but the built-in welcome page speaks HTTP/1.1 only, and most browsers would get an '
                    'error; leave "h2" out until there is a backend for it',
                )
                break


def _short_keys(reading: Reading) -> Iterator[Finding]:
    for one in reading.certificates:
        kind, _, bits = one.key_type.partition("-")
        if kind == "rsa" and int(bits) < SAFE_RSA_BITS:
            message = (
                f"certificate {one.fingerprint[:16]} has an RSA key of {bits} bits, which clients refuse; renew it"
            )
            yield Finding("warning", plain(one.paths[0]), f"{message} with {SAFE_RSA_BITS} or more, or with ECDSA")


def _key(config: Config, key: str) -> str:
    return f"{plain(str(config.source))}: {key}" if config.source is not None else f"built-in defaults: {key}"


def _default_file(config: Config) -> str:
    return plain(str(config.server.state_directory / DEFAULT_NAME_FILE))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {count(len(names) - NAMED, 'other name')}"


def _fingerprint(selection: Selection | None) -> str | None:
    return selection.certificate.fingerprint if selection is not None else None
