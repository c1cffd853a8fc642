"""One of a relay's two legs: a socket, the layer that is spoken on it, and its outlet.

A leg reads its socket, and gives the stream to the other leg; it learns of its own peer's end, reset or breach, and
says so to the relay, which knows what the other peer is to be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Protocol

from proxy.layer import PLAIN_TEXT, Buffer, Layer
from proxy.outlet import Outlet, OutletState
from proxy.tls_engine import TlsError

_DISCARD = 16 << 10  # bytes thrown away at once
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


def reset(sock: socket.socket) -> None:
    """Close a socket so that its peer sees a reset, not an end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def close_softly(sock: socket.socket) -> None:
    """Close so that what was sent last (an alert) arrives: bytes left unread would turn the close into a reset."""
    try:
        sock.shutdown(socket.SHUT_WR)
        for _ in range(16):
            if not sock.recv(_DISCARD):
                break
    except OSError:
        pass
    sock.close()


class Hub(Protocol):
    """What a leg asks of its relay."""

    over: bool
    last: float  # when bytes came or went, in the loop's time

    def heard_end(self, leg: Leg) -> None:
        """The leg's peer has ended its stream cleanly."""

    def heard_truncation(self, leg: Leg) -> None:
        """The leg's peer has ended TCP in the middle of its stream."""

    def broken(self, leg: Leg) -> None:
        """The leg's peer broke the layer's rules. What the layer has to say to it has been sent."""

    def flooded(self, leg: Leg) -> None:
        """More is held for the leg's peer than may be."""

    def failed(self, leg: Leg) -> None:
        """Reading from the leg's socket failed, or sending to it when nothing more is to be had from it."""

    def send_failed(self, leg: Leg) -> None:
        """Sending failed; the socket may still hold what its peer said before."""

    def finished(self) -> None:
        """All that a leg was given, its end included, has left."""


class Leg:
    """One side of a relay. `other` is set by the relay once both are made."""

    __slots__ = (
        "_buffer",
        "_hub",
        "_layer",
        "_loop",
        "_max_held",
        "ended",
        "other",
        "outlet",
        "reading",
        "socket",
    )

    other: Leg

    def __init__(
        self,
        hub: Hub,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        layer: Layer,
        buffer: memoryview,
        max_held: int,
    ) -> None:
        self._hub = hub
        self._loop = loop
        self._layer = layer
        self._buffer = buffer
        self._max_held = max_held
        self.socket = sock
        self.outlet = Outlet(loop, sock, self)
        self.ended = False  # the peer's stream has ended
        self.reading = False  # until FIN or the relay's end, apart from pauses

    @property
    def told(self) -> bool:
        """Whether the peer was told our stream's end, and all that came before it has left."""
        return self.outlet.state is OutletState.FINISHED

    def start(self) -> None:
        """Read from now on, in place of who read before; what the layer holds already comes first."""
        self.reading = True
        if self.other.outlet.blocked:
            self._loop.remove_reader(self.socket)
        else:
            self._loop.add_reader(self.socket, self._readable)
        if self._layer.more:
            self._take_in(b"")

    def send(self, data: Buffer) -> None:
        """Send a part of the stream. Raises TlsError."""
        layer = self._layer
        if not self.outlet.send(data if layer is PLAIN_TEXT else layer.encode(data)):
            self._blocked()

    def finish(self) -> None:
        """End our direction, cleanly, behind everything sent."""
        self._say(self._layer.close())
        self.cut_short()

    def cut_short(self) -> None:
        """End our direction of TCP behind everything sent, and leave the stream without its end."""
        if not self._hub.over:
            self.outlet.finish()

    def give(self, raw: Buffer) -> None:
        """Send bytes as they are, before the stream: a header, the rest of a handshake."""
        self._say(raw)

    def end(self) -> None:
        """Take it that the peer's stream has ended."""
        self.ended = True
        self._hub.heard_end(self)

    def drain_socket(self) -> None:
        """Hand on what the peer said before its connection failed, as far as the other leg takes it now."""
        while not self._hub.over and not self.other.outlet.blocked:
            try:
                size = self.socket.recv_into(self._buffer)
            except OSError:
                return
            if size == 0:
                return
            self._take_in(self._buffer[:size])

    def slim(self) -> None:
        """Give back memory that is not needed while nothing moves."""
        if self._layer.grown:
            self._layer.slim()

    def close(self, *, abruptly: bool) -> None:
        """Close the socket, with a reset or without one."""
        self._loop.remove_reader(self.socket)
        self.outlet.close()
        self._layer.free()
        if abruptly:
            reset(self.socket)
        else:
            self.socket.close()

    def drained(self) -> None:
        """See Feeder."""
        self._hub.last = self._loop.time()
        self.other._go_on()
        self._hub.finished()

    def send_failed(self) -> None:
        """See Feeder."""
        self._hub.send_failed(self)

    def _readable(self) -> None:
        try:
            size = self.socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._hub.failed(self)
            return
        if size == 0:
            self._fin()
        elif not self.ended:  # what follows a stream's end is no part of it, and keeps nothing alive
            self._hub.last = self._loop.time()
            self._take_in(self._buffer[:size])

    def _take_in(self, data: Buffer) -> None:
        """Decode, and pass on to either side what there is for it."""
        layer = self._layer
        if layer is PLAIN_TEXT:
            stream = data
        else:
            try:
                stream = layer.decode(data)
            except TlsError:
                self._say(layer.output())
                if not self._hub.over:
                    self._hub.broken(self)
                return
            if layer.owes:
                self._say(layer.output())
        if stream and not self._hub.over:
            try:
                self.other.send(stream)
            except TlsError:
                self._hub.broken(self.other)
                return
        if self._hub.over:
            return
        if layer.ended:
            self.end()
        elif layer.more:  # others have their turn first
            self._loop.remove_reader(self.socket)
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take in what was left over, unless the other leg is blocked: then it is taken in once that has drained."""
        if self._hub.over or self.other.outlet.blocked:
            return
        if self._layer.more:
            self._take_in(b"")
        if self.reading and not (self._hub.over or self._layer.more or self.other.outlet.blocked):
            self._loop.add_reader(self.socket, self._readable)

    def _fin(self) -> None:
        self.reading = False
        self._loop.remove_reader(self.socket)
        if not self.ended:
            self._hub.last = self._loop.time()
            if self._layer.marks_end:
                self._hub.heard_truncation(self)
            else:
                self.end()

    def _say(self, data: Buffer) -> None:
        if data and not self._hub.over and not self.outlet.send(data):
            self._blocked()

    def _blocked(self) -> None:
        """The socket did not take all that it was given."""
        if self._hub.over:
            return
        if self.outlet.held > self._max_held:
            self._hub.flooded(self)
        else:
            self._loop.remove_reader(self.other.socket)
