"""What does not fit together about mail: what its protocols can do, and what would be dangerous."""

from __future__ import annotations

from collections.abc import Iterator

from config.fields import is_address
from config.model import BackendConfig, Config, ListenerConfig
from config.sources import KeyPath
from config.words import quoted

Findings = Iterator[tuple[KeyPath, str]]

_SUBMISSION_PORTS = frozenset({465, 587})
_RELAY_DANGER = (
    "behind a proxy a mail server takes every stranger for a local client and relays mail for them, unless it is told "
    "the client's address"
)
# The mail protocols in which a backend's client_address can be told.
_TOLD_IN: dict[str, frozenset[str]] = {
    "xclient": frozenset({"smtp"}),
    "imap-id": frozenset({"imap"}),
}


def mail_findings(config: Config) -> Findings:
    """Everything about mail that does not fit together."""
    yield from _unsafe_smtp_backends(config)
    for index, listener in enumerate(config.listeners):
        yield from _misplaced_starttls(listener, ("listeners", index))
        yield from _misplaced_require_tls(listener, ("listeners", index, "require_tls"))
    for name, backend in config.backends.items():
        users = [listener for listener in config.listeners if name in listener.backends_used()]
        yield from _unspeakable(backend, users, ("backends", name))


def references(listener: ListenerConfig, index: int) -> Iterator[tuple[KeyPath, str]]:
    """The backends that a listener names, each with the key that does."""
    if listener.backend is not None:
        yield ("listeners", index, "backend"), listener.backend
    for place, route in enumerate(listener.routes):
        if route.backend is not None:
            yield ("listeners", index, "routes", place, "backend"), route.backend


def _unsafe_smtp_backends(config: Config) -> Findings:
    reported: set[str] = set()
    for index, listener in enumerate(config.listeners):
        if listener.protocol != "smtp":
            continue
        for path, name in references(listener, index):
            if is_address(name):
                yield (
                    path,
                    f"an SMTP listener needs a table of [backends] that says client_address, not an address: "
                    f'{_RELAY_DANGER}; write servers = ["{name}"] and client_address = "proxy-v2" there',
                )
            elif (
                name in config.backends
                and name not in reported
                and "client_address" not in config.backends[name].model_fields_set
            ):
                reported.add(name)
                yield (
                    ("backends", name, "client_address"),
                    f"must be said, since SMTP listener {quoted(listener.name)} uses this backend: {_RELAY_DANGER}; "
                    f'write "proxy-v2" (for Postfix with smtpd_upstream_proxy_protocol = haproxy), or "none" if the '
                    f"server trusts this proxy's address with nothing",
                )


def _misplaced_require_tls(listener: ListenerConfig, path: KeyPath) -> Findings:
    if listener.redirects or "require_tls" not in listener.model_fields_set:
        return
    if listener.tls != "starttls":
        yield path, 'has no effect without tls = "starttls"; leave it out'
    elif not listener.require_tls and listener.protocol != "smtp":
        yield path, 'may be false only with protocol = "smtp", between mail servers; leave it out'
    elif not listener.require_tls and any(address.port in _SUBMISSION_PORTS for address in listener.bind):
        yield path, "must not be false on a submission port (465, 587), where clients send passwords; leave it out"


def _misplaced_starttls(listener: ListenerConfig, path: KeyPath) -> Findings:
    if listener.redirects or listener.tls != "starttls":
        return
    if not listener.is_mail:
        message = 'needs a protocol that has it: say protocol = "smtp", "imap", "pop3" or "sieve", or tls = "implicit"'
        yield (*path, "protocol"), f'tls = "starttls" {message}'
        return
    for place, route in enumerate(listener.routes):
        if route.action == "passthrough":
            yield (
                (*path, "routes", place, "action"),
                '"passthrough" cannot be with tls = "starttls": the client has begun TLS with snigate, and a backend '
                'could not tell; use "terminate"',
            )


def _unspeakable(backend: BackendConfig, users: list[ListenerConfig], path: KeyPath) -> Findings:
    """What a backend is to be told in a protocol that its listeners do not speak."""
    spoken = {listener.protocol for listener in users}
    told = backend.client_address
    if told in _TOLD_IN and not spoken <= _TOLD_IN[told]:
        (protocol,) = _TOLD_IN[told]
        other = next(one for one in users if one.protocol != protocol)
        yield (
            (*path, "client_address"),
            f'"{told}" is said in {protocol.upper()}, which listener {quoted(other.name)} does not speak; use '
            '"proxy-v2" or "none", or give it a backend of its own',
        )
    if backend.tls != "starttls":
        return
    stranger = next((one for one in users if not one.is_mail), None)
    if stranger is not None:
        message = f"is said in a mail protocol, which listener {quoted(stranger.name)} does not speak"
        yield (*path, "tls"), f'"starttls" {message}; use "verify" or "off"'
    if backend.check in ("tls", "http"):
        message = 'would begin with TLS, and tls = "starttls" does not; use check = "tcp"'
        yield (*path, "check"), f'"{backend.check}" {message}'
