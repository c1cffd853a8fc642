"""TLSA records (DANE, RFC 6698), as an operator puts them into the DNS."""

from __future__ import annotations

from collections.abc import Iterator

from certstore.certified_key import CertifiedKey
from certstore.names import wildcard_of
from config.model import Config, ListenerConfig


def tlsa(spki: bytes) -> str:
    """The data for a public key's SHA-256: usage 3 (this end's own), selector 1 (public key), matching type 1."""
    return f"3 1 1 {spki.hex()}"


def tlsa_records(one: CertifiedKey, data: str, config: Config) -> tuple[str, ...]:
    """Whole records with this data for the certificate's names, at each port that an SMTP listener is bound to."""
    found = {
        f"_{address.port}._tcp.{name}. IN TLSA {data}": None
        for listener in config.listeners
        if listener.protocol == "smtp"
        for address in listener.bind
        if address.port
        for name in _names(one, listener)
    }
    return tuple(found)


def _names(one: CertifiedKey, listener: ListenerConfig) -> Iterator[str]:
    """A wildcard is no name of a server: what it covers of the names that the listener knows is."""
    yield from (name for name in one.names if not name.startswith("*."))
    known = [host for route in listener.routes for host in route.hosts]
    if listener.default is not None:
        known.append(listener.default)
    for name in known:
        if wildcard_of(name) in one.names and not name.startswith("*."):
            yield name
