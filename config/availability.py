"""What the configuration already has words for but this version cannot do: refused, never ignored.

One row for each; a row goes when the feature comes. The values are parsed and checked like all others before this
table is asked, so a misspelt value is called misspelt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from config.model import BackendConfig, Config, ListenerConfig, Table
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


NOT_AVAILABLE_YET: tuple[Unavailable, ...] = (
    Unavailable(
        ListenerConfig,
        "tls",
        _is("starttls"),
        '"starttls" is not available yet; use "implicit" on the protocol\'s TLS port (465, 993, 995)',
    ),
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
    Unavailable(
        BackendConfig,
        "tls",
        _is("starttls"),
        '"starttls" is not available yet; use "verify" with a port of the server that speaks TLS at once, or "off"',
    ),
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
