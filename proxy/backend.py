"""Backends: where a connection's stream goes. What a session asks of one, and what the two tell each other."""

from __future__ import annotations

import asyncio
import socket
from socket import SocketType
from typing import NamedTuple, Protocol

from certstore.ranking import Level
from proxy.bare_socket import dressed
from proxy.layer import PLAIN_TEXT, Layer
from proxy.poller import Loop
from proxy.starttls.conversation import TurnedAway
from proxy.starttls.opening import Opened
from proxy.starttls.protocol import MailProtocol
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


class MailClient(NamedTuple):
    """How far a mail client has got, to where its server is to be brought before the two are joined."""

    protocol: MailProtocol
    name: str  # what snigate calls itself to a server
    greeted: bool  # by snigate, in the server's place
    hello: bytes = b""  # see Plan.hello


class Place(Protocol):
    """What counts an open connection."""

    def release(self) -> None:
        """The connection has ended."""


class Connected:
    """A connection to one server of a backend, ready for the stream. Who gets it calls `release` or `drop` once."""

    __slots__ = ("_places", "engine", "first", "heard", "server", "socket")

    def __init__(
        self,
        sock: SocketType,
        engine: TlsEngine | None,
        server: str,
        first: bytes,
        *places: Place,
        heard: Opened | None = None,
    ) -> None:
        self.socket = sock
        self.engine = engine  # None: plain text
        self.server = server  # as configured
        self.first = first  # what the server is still to be sent, as it is, before the stream
        self.heard = heard  # what came of a conversation with the server; None: there was none
        self._places = places

    @property
    def layer(self) -> Layer:
        """What is spoken on the socket."""
        return self.engine or PLAIN_TEXT

    def dress(self) -> socket.socket:
        """The socket, from now on one that asyncio takes."""
        self.socket = made = dressed(self.socket)
        return made

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

    def turned_away(self, error: TurnedAway) -> None:
        """There is none, since the server will have nothing to do with this client; it has words for it."""


class Dial(Protocol):
    """A connection to a backend in the making."""

    def cancel(self) -> None:
        """Give up; the taker is told nothing afterwards."""


class Backend(Protocol):
    """Somewhere to relay to."""

    name: str
    waits_for_handshake: bool

    def dial(
        self, loop: Loop, established: Established | None, taker: Taker, mail: MailClient | None = None
    ) -> Dial | None:
        """Begin to connect; `taker` is told once. None: it has been told already.

        `established` is given where `waits_for_handshake`, and `mail` for a mail protocol's clients.
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

    def turned_away(self, error: TurnedAway) -> None:
        """See Taker."""
        self.not_reached(str(error))

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
