"""Backends: where a connection's stream goes. What a session asks of one, and what the two tell each other."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple, Protocol

from certstore.ranking import Level
from proxy.layer import PLAIN_TEXT, Layer
from proxy.poller import Loop
from proxy.tls_engine import Negotiated, TlsEngine

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


class Place(Protocol):
    """What counts an open connection."""

    def release(self) -> None:
        """The connection has ended."""


class Connected:
    """A connection to one server of a backend, ready for the stream. Who gets it calls `release` or `drop` once."""

    __slots__ = ("_places", "engine", "first", "server", "socket")

    def __init__(
        self, sock: socket.socket, engine: TlsEngine | None, server: str, first: bytes, *places: Place
    ) -> None:
        self.socket = sock
        self.engine = engine  # None: plain text
        self.server = server  # as configured
        self.first = first  # what the server is still to be sent, as it is, before the stream
        self._places = places

    @property
    def layer(self) -> Layer:
        """What is spoken on the socket."""
        return self.engine or PLAIN_TEXT

    def release(self) -> None:
        """The connection has ended."""
        for place in self._places:
            place.release()

    def drop(self) -> None:
        """Close it: it is not going to be used, or no longer."""
        self.socket.close()
        self.release()


class Taker(Protocol):
    """Who wants a connection."""

    def reached(self, connected: Connected) -> None:
        """Here it is."""

    def not_reached(self, reason: str) -> None:
        """There is none, for this reason, in words."""


class Dial(Protocol):
    """A connection to a backend in the making."""

    def cancel(self) -> None:
        """Give up; the taker is told nothing afterwards."""


class Backend(Protocol):
    """Somewhere to relay to."""

    name: str
    waits_for_handshake: bool

    def dial(self, loop: Loop, established: Established | None, taker: Taker) -> Dial | None:
        """Begin to connect; `taker` is told once. None: it has been told already.

        `established` is given where `waits_for_handshake`.
        """


class Reaching:
    """A taker that can be waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._outcome: asyncio.Future[Connected] = loop.create_future()

    def reached(self, connected: Connected) -> None:
        """See Taker."""
        self._outcome.set_result(connected)

    def not_reached(self, reason: str) -> None:
        """See Taker."""
        self._outcome.set_exception(ConnectionError(reason))

    async def connected(self, dial: Dial | None) -> Connected:
        """What the dial that was begun for this taker has reached. Raises ConnectionError, the reason in words."""
        try:
            return await asyncio.shield(self._outcome)
        except asyncio.CancelledError:
            if dial is not None:
                dial.cancel()
            if self._outcome.done() and self._outcome.exception() is None:
                self._outcome.result().drop()
            raise
