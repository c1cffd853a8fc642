"""Backends: where a connection's stream goes. What a session asks of one, and what the two tell each other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple, Protocol

from certstore.ranking import Level
from proxy.layer import Layer
from proxy.tls_engine import Negotiated

Endpoint = tuple[str, int]


class Established(NamedTuple):
    """A connection that is going to be relayed: what a backend, the log and the welcome page are told of it.

    Where it passes through, nothing was negotiated here, and no certificate served.
    """

    client: Endpoint
    local: Endpoint
    listener: str
    server_name: str | None
    negotiated: Negotiated | None = None
    fingerprint: str = ""
    matched: str = ""
    level: Level | None = None
    leaf: bytes = b""  # the certificate that was served, DER
    id: str = ""
    client_name: str | None = None  # the common name in the client's certificate, which was verified; "" without one


class Connected(NamedTuple):
    """A connection to one server of a backend, ready for the stream.

    Who gets it registers a reader of its own, or removes the one that may be there, and calls `release` once the
    connection has ended.
    """

    socket: socket.socket
    layer: Layer
    server: str  # as configured
    first: bytes  # what the server is still to be sent, as it is, before the stream
    release: Callable[[], None]

    def drop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close it: it is not going to be used, or no longer, and nothing reads it any more."""
        loop.remove_reader(self.socket)
        self.socket.close()
        self.release()


class Dial(Protocol):
    """A connection to a backend in the making."""

    def cancel(self) -> None:
        """Give up; neither callback is called afterwards."""


class Backend(Protocol):
    """Somewhere to relay to."""

    name: str
    waits_for_handshake: bool

    def dial(
        self,
        loop: asyncio.AbstractEventLoop,
        established: Established | None,
        on_connected: Callable[[Connected], None],
        on_failed: Callable[[str], None],
    ) -> Dial:
        """Begin to connect. `on_failed` gets the reason in words; exactly one of the callbacks is called, never before
        this returns. `established` is given where `waits_for_handshake`.
        """
