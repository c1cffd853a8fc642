"""One of a relay's two legs: a socket, whose peer's stream goes to the other leg, and the outlet to that peer.

A leg learns of its own peer's end, reset or breach, and says so to the relay, which knows what the other peer is to be
told. Where TLS is spoken, it decodes what comes and encodes what goes, and after every call sends what the engine has
to say itself. Plain text and TLS are one class on purpose: the interpreter runs a method fast only while all that it
meets are of one class (as two, a kept-alive request cost a quarter more).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from socket import SocketType

from proxy.direct_engine import DirectEngine
from proxy.hub import Hub
from proxy.layer import Buffer
from proxy.outlet import Outlet, OutletStage
from proxy.poller import Poller
from proxy.tls_engine import LARGE, TlsEngine, TlsError

READ_SIZE = 256 << 10  # bytes read from a socket at once, and so what a direction holds at most (beside TLS framing)
# A peer that reads nothing can still make OpenSSL answer, with KeyUpdates: beyond this, it is cut off.
MAX_HELD = 2 * READ_SIZE

_CLOSE, _CLOSE_WAIT = 7, 8  # the kernel's states of a connection, linux/tcp_states.h
_DISCARD = 16 << 10  # bytes thrown away at once
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


def shared_buffer() -> memoryview:
    """The buffer that all relays of one event loop read into."""
    return memoryview(bytearray(READ_SIZE))


def reset(sock: SocketType) -> None:
    """Close a socket so that its peer sees a reset, not an end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def close_softly(sock: SocketType) -> None:
    """Close so that what was sent last, an alert, arrives."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
    discard(sock)
    sock.close()


def discard(sock: SocketType) -> None:
    """Throw away what has come and was not read: a close would be a reset with it, and overtake what was sent last."""
    with contextlib.suppress(OSError):
        for _ in range(16):
            if not sock.recv(_DISCARD):
                break


def has_ended(sock: SocketType) -> bool:
    """Whether a TCP peer has sent its FIN or a reset, read or not."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in (_CLOSE, _CLOSE_WAIT)


class Leg(Outlet):
    """One side of a relay. `other` is set by the relay once both are made."""

    __slots__ = ("_buffer", "_direct", "_engine", "_hub", "ended", "other", "passed", "reading")

    _loop: Poller
    other: Leg

    def __init__(
        self,
        hub: Hub,
        loop: Poller,
        sock: SocketType,
        engine: TlsEngine | None,
        buffer: memoryview,
    ) -> None:
        super().__init__(loop, sock)
        self._hub = hub
        self._engine = engine  # None: plain text, where the stream is what the socket carries
        self._direct = engine if isinstance(engine, DirectEngine) else None
        self._buffer = buffer
        self.passed = 0  # bytes of the stream that were passed on to the peer
        self.ended = False  # the peer's stream has ended
        self.reading = True  # until FIN, apart from pauses

    @property
    def told(self) -> bool:
        """Whether the peer was told our stream's end, and all that came before it has left."""
        return self.stage is OutletStage.FINISHED

    def start(self) -> None:
        """Read from now on, in place of who read before; what the engine holds already comes first."""
        if self.other._held is None:
            self._loop.add_reader(self.fd, self._readable)
        else:
            self._loop.remove_reader(self.fd)
        engine, direct = self._engine, self._direct
        if engine is not None and engine.more and not (direct is not None and self._attach(direct)):
            self._decode(engine, b"")
            if direct is not None and not self._hub.over:
                self._attach(direct)

    def give(self, raw: Buffer) -> None:
        """Send bytes as they are, before the stream or beside it: a header, what TLS has to say."""
        if raw and not self._hub.over and not self.send(raw):
            self._blocked()

    def pass_on(self, data: Buffer) -> None:
        """Send a part of the stream, which is not empty."""
        self.passed += len(data)
        if self._engine is not None:
            try:
                direct = self._direct
                if direct is not None and (direct.direct or (len(data) >= LARGE and self._attach(direct))):
                    if direct.write(data):
                        return
                    data = direct.output()
                else:
                    data = self._engine.encode(data)
            except TlsError:
                self._hub.broken(self)
                return
            except OSError:
                self.send_failed()
                return
        if not self.send(data):
            self._blocked()

    def finish(self) -> None:
        """End our direction, cleanly, behind everything sent: close_notify where there is TLS, and FIN."""
        if self._engine is not None:
            try:
                self.give(self._engine.close())
            except OSError:
                self.send_failed()
                return
        self.cut_short()

    def cut_short(self) -> None:
        """End our direction of TCP behind everything sent, and leave the stream without its end."""
        if not self._hub.over:
            self.shut()

    def end(self) -> None:
        """Take it that the peer's stream has ended."""
        self.ended = True
        self._hub.heard_end(self)

    def drain_socket(self) -> None:
        """Hand on what the peer said before its connection failed, as far as the other leg takes it now."""
        while not self._hub.over and not self.other.blocked:
            try:
                size = self.socket.recv_into(self._buffer)
            except OSError:
                return
            if size == 0:
                return
            if self._engine is None:
                self.other.pass_on(self._buffer[:size])
            else:
                self._decode(self._engine, self._buffer[:size])

    def slim(self) -> None:
        """Give back memory that is not needed while nothing moves."""
        if self._engine is not None and self._engine.grown and self._held is None:
            self._engine.slim()

    def close(self, *, abruptly: bool) -> None:
        """Close the socket, with a reset or without one."""
        if self.reading:
            self._loop.remove_reader(self.fd)
        self.drop()
        if self._engine is not None:
            self._loop.next_step(self._engine.free)
        if abruptly:
            reset(self.socket)
        else:
            self.socket.close()

    def drained(self) -> None:
        """See Outlet."""
        if self._hub.over:
            return
        self._hub.last = self._loop.time()
        if self._direct is not None:
            self._attach(self._direct)
        self.other._go_on()
        self._hub.finished()

    def send_failed(self) -> None:
        """See Outlet."""
        if not self._hub.over:
            self._hub.send_failed(self)

    def _readable(self) -> None:
        direct = self._direct
        if direct is not None and direct.direct and not self.ended:
            self._read(direct)
            return
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
            if self._engine is None:
                self.other.pass_on(self._buffer[:size])
            else:
                self._decode(self._engine, self._buffer[:size])

    def _read(self, engine: DirectEngine) -> None:
        """Let OpenSSL read from the socket itself, and hand on what has come."""
        try:
            data = engine.read()
        except TlsError:
            discard(self.socket)
            self._hub.broken(self)
            return
        except OSError:
            self._hub.failed(self)
            return
        if data and engine.direct:
            self._hub.last = self._loop.time()
            self.other.pass_on(data)
        elif data is None:
            self._fin()
        else:
            self._hub.last = self._loop.time()
            self._hand_on(engine, data)

    def _decode(self, engine: TlsEngine, data: Buffer) -> None:
        """Hand on what has come, decoded."""
        try:
            data = engine.decode(data)
        except TlsError:
            self.give(engine.output())
            if not self._hub.over:
                self._hub.broken(self)
            return
        self._hand_on(engine, data)

    def _hand_on(self, engine: TlsEngine, data: Buffer) -> None:
        """Hand on a part of the stream, and answer what TLS itself wants answered."""
        hub = self._hub
        if engine.owes:
            self.give(engine.output())
        if data and not hub.over:
            self.other.pass_on(data)
        if hub.over:
            return
        if engine.ended:
            self.end()
        elif engine.more:  # others have their turn first
            self._loop.remove_reader(self.fd)
            self._loop.call_soon(self._go_on)

    def _attach(self, direct: DirectEngine) -> bool:
        """Let OpenSSL have the socket again, where nothing is in its way."""
        return self._held is None and direct.attach()

    def _go_on(self) -> None:
        """Take in what was left over, unless the other leg is blocked: then it is taken in once that has drained."""
        if self._hub.over or self.other.blocked:
            return
        engine = self._engine
        if engine is not None and engine.more:
            self._decode(engine, b"")
            if engine.more:
                return
        if self.reading and not (self._hub.over or self.other.blocked):
            self._loop.add_reader(self.fd, self._readable)

    def _fin(self) -> None:
        self.reading = False
        self._loop.remove_reader(self.fd)
        if not self.ended:
            self._hub.last = self._loop.time()
            if self._engine is None:
                self.end()
            else:  # only close_notify is an end
                self._hub.heard_truncation(self)

    def _send_fin(self) -> None:
        """Where both peers have ended, that is the relay's end, and closing the socket sends FIN as well."""
        if self.reading or not self.other.told:
            super()._send_fin()
        else:
            self.stage = OutletStage.FINISHED

    def _blocked(self) -> None:
        """The socket did not take all that it was given."""
        if self._hub.over:
            return
        if self.held > MAX_HELD:
            self._hub.flooded(self)
        else:
            self._loop.remove_reader(self.other.fd)
