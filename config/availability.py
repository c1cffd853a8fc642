"""What the configuration already has words for but this version cannot do: refused, never ignored.

One row for each; a row goes when the feature comes. The values are parsed and checked like all others before this
table is asked, so a misspelt value is called misspelt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from config.model import BackendConfig, Config, ListenerConfig, RouteConfig, Table
from config.sources import KeyPath


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A key of a table, which of its values cannot be used yet, and the sentence that says so."""

    table: type[Table]
    key: str
    refused: Callable[[Any], bool]
    message: str


def _is(value: str) -> Callable[[Any], bool]:
    return lambda found: bool(found == value)


def _several(entries: Any) -> bool:
    return len(entries) > 1


def _present(value: Any) -> bool:
    return value is not None


_not_empty = bool

NOT_AVAILABLE_YET: tuple[Unavailable, ...] = (
    Unavailable(
        ListenerConfig,
        "protocol",
        _is("http-redirect"),
        '"http-redirect" is not available yet; let the web server redirect plain HTTP',
    ),
    Unavailable(
        ListenerConfig,
        "tls",
        _is("starttls"),
        '"starttls" is not available yet; use "implicit" on the protocol\'s TLS port (465, 993, 995)',
    ),
    Unavailable(
        ListenerConfig,
        "accept_proxy_from",
        _not_empty,
        "a PROXY header from clients is not available yet; leave the list empty",
    ),
    Unavailable(RouteConfig, "client_auth", _is("optional"), 'client certificates are not available yet; use "off"'),
    Unavailable(RouteConfig, "client_auth", _is("required"), 'client certificates are not available yet; use "off"'),
    Unavailable(RouteConfig, "client_ca", _present, "client certificates are not available yet; leave the key out"),
    Unavailable(BackendConfig, "servers", _several, "several servers are not available yet; name one"),
    Unavailable(
        BackendConfig,
        "client_address",
        _is("xclient"),
        '"xclient" is not available yet; use "proxy-v2", which Postfix takes with smtpd_upstream_proxy_protocol',
    ),
    Unavailable(
        BackendConfig,
        "client_address",
        _is("imap-id"),
        '"imap-id" is not available yet; use "proxy-v2", which Dovecot takes with haproxy = yes',
    ),
    Unavailable(BackendConfig, "tls", _is("verify"), 'TLS to the backend is not available yet; use "off"'),
    Unavailable(BackendConfig, "tls", _is("starttls"), 'TLS to the backend is not available yet; use "off"'),
)


def unavailable(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Key path and sentence for everything in the configuration that this version cannot do."""
    for path, table in _tables(config):
        for row in NOT_AVAILABLE_YET:
            if isinstance(table, row.table) and row.refused(getattr(table, row.key)):
                yield (*path, row.key), row.message


def _tables(config: Config) -> Iterator[tuple[KeyPath, Table]]:
    for name, backend in config.backends.items():
        yield ("backends", name), backend
    for index, listener in enumerate(config.listeners):
        yield ("listeners", index), listener
        for place, route in enumerate(listener.routes):
            yield ("listeners", index, "routes", place), route
