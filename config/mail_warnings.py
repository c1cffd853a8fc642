"""What is allowed about mail but probably not meant, or needs care."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from config.addresses import Address, TcpAddress, parse_server
from config.fields import is_address
from config.model import BackendConfig, Config, ListenerConfig

Found = Iterator[tuple[str, str]]  # keys of the listener, and messages

# What clients expect on the well-known ports (RFC 8314; 25 and 4190 have STARTTLS alone).
_BY_STARTTLS = {25: "smtp", 587: "smtp", 143: "imap", 110: "pop3", 4190: "sieve"}
_AT_ONCE = {465: "smtp", 993: "imap", 995: "pop3"}
_PROTOCOLS = {**_BY_STARTTLS, **_AT_ONCE}
_MX_PORT = 25


def mail_warnings(config: Config, listener: ListenerConfig) -> Found:
    """Those about one listener."""
    yield from _unsaid_protocol(config, listener)
    if not listener.redirects:
        yield from _refused_senders(listener)
    if listener.is_mail:
        yield from _misfit_port(listener)
        yield from _plain_text(listener)
        for name in listener.backends_used():
            if name in config.backends:
                yield from _misfit_backend(config, listener, config.backends[name])


def _refused_senders(listener: ListenerConfig) -> Found:
    """strict_sni where other mail servers deliver: on port 25, whatever is said of the protocol, or by STARTTLS."""
    if not listener.strict_sni:
        return
    if any(address.port == _MX_PORT for address in listener.bind):
        where = "to port 25"
    elif listener.protocol == "smtp" and listener.tls == "starttls":
        where = "by SMTP with STARTTLS"
    else:
        return
    message = (
        f"mail servers that deliver {where} often send no server name, and are refused here; set it to false and make "
        "the MX name the default of this listener"
    )
    yield "strict_sni", message


def _plain_text(listener: ListenerConfig) -> Found:
    if listener.lets_plain_text_through:
        message = (
            "clients may go on without TLS here, and everything they say reaches the server in plain text; set it to "
            "true unless the listener is for other mail servers (port 25), of which some have no TLS"
        )
        yield "require_tls", message


def _unsaid_protocol(config: Config, listener: ListenerConfig) -> Found:
    """Mail that passes as some stream: nothing asks then whether the server knows its clients' addresses."""
    if listener.is_mail or listener.redirects:
        return
    port = next((port for port in _ports(listener.bind) if port in _PROTOCOLS), None)
    if port is None:
        servers = [one for name in listener.backends_used() for one in _servers(config, name)]
        port = next((port for port in _ports(servers) if _PROTOCOLS.get(port) == "smtp"), None)
    if port is None:
        return
    protocol = _PROTOCOLS[port]
    rest = "its time-outs, its words when a server is down"
    if protocol == "smtp":
        rest += ", and the check that its server is told who clients are, or it may relay mail for every stranger"
    yield "protocol", f'port {port} is one of {protocol.upper()}\'s; say protocol = "{protocol}", for {rest}'


def _misfit_port(listener: ListenerConfig) -> Found:
    ports = [port for port in _ports(listener.bind) if port in _PROTOCOLS]
    wrong = _AT_ONCE if listener.tls == "starttls" else _BY_STARTTLS
    if not ports or any(port not in wrong for port in ports):
        return
    how, value = ("by STARTTLS", "starttls") if wrong is _BY_STARTTLS else ("at once", "implicit")
    yield "tls", f'clients begin TLS {how} on port {ports[0]}, and cannot here; say tls = "{value}"'


def _misfit_backend(config: Config, listener: ListenerConfig, backend: BackendConfig) -> Found:
    others = {
        one.protocol
        for one in config.listeners
        if one.is_mail and one.protocol != listener.protocol and backend.name in one.backends_used()
    }
    if others:
        message = (
            f"is used for {' and '.join(sorted({*others, listener.protocol}))}, which no server speaks on one port"
        )
        yield "backend", f'backend "{backend.name}" {message}; give each protocol a backend of its own'
    if backend.client_address == "proxy-v1" and listener.protocol != "smtp":
        message = (
            "cannot be told by PROXY version 1 that clients speak TLS, and may refuse their passwords for it (Dovecot: "
            'disable_plaintext_auth); say client_address = "proxy-v2"'
        )
        yield "backend", f'backend "{backend.name}" {message}'
    if listener.lets_plain_text_through and backend.tls != "off":
        message = (
            f'backend "{backend.name}" is spoken to by TLS, so its server may take passwords that clients sent here in '
            "plain text; let it offer no login at all (Postfix: smtpd_sasl_auth_enable = no)"
        )
        yield "require_tls", message


def _ports(addresses: Iterable[Address]) -> list[int]:
    return [one.port for one in addresses if isinstance(one, TcpAddress)]


def _servers(config: Config, backend: str) -> Iterable[Address]:
    if backend in config.backends:
        return config.backends[backend].servers
    return (parse_server(backend),) if is_address(backend) else ()
