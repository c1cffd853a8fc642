"""TLS on a new connection to a server, until the handshake is done and the certificate verified."""

from __future__ import annotations

import os
from collections.abc import Callable
from socket import SocketType

from proxy.backend_tls import HandshakeRefused, ServerHandshake
from proxy.layer import Buffer
from proxy.outlet import Outlet
from proxy.poller import Loop
from proxy.tls_engine import TlsEngine

READ_SIZE = 16 << 10  # bytes read at once


class Securing(Outlet):
    """One handshake. Calls one of the callbacks, and then leaves the socket alone."""

    __slots__ = ("_handshake", "_on_done", "_on_failed")

    def __init__(
        self,
        loop: Loop,
        sock: SocketType,
        handshake: ServerHandshake,
        on_done: Callable[[TlsEngine, bytes], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """`on_done` gets the engine, and what the server is still to be sent; `on_failed` the reason, in words."""
        super().__init__(loop, sock)
        self._handshake = handshake
        self._on_done = on_done
        self._on_failed = on_failed

    def begin(self, header: bytes) -> None:
        """Send `header` and the ClientHello in one, and go on from there."""
        self._loop.add_reader(self.fd, self._readable)
        self._proceed(b"", header)

    def stop(self) -> None:
        """Leave the socket alone."""
        self._loop.remove_reader(self.fd)
        self.drop()

    def drained(self) -> None:
        """See Outlet: nothing waits for it."""

    def send_failed(self) -> None:
        """See Outlet. What the server said before it went, or its end, is read all the same."""

    def _readable(self) -> None:
        try:
            data = self.socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(f"{os.strerror(error.errno or 0)}, during the TLS handshake")
            return
        if data:
            self._proceed(data)
        else:
            self._fail("it closed the connection during the TLS handshake (its log may say why)")

    def _proceed(self, data: bytes, first: bytes = b"") -> None:
        handshake = self._handshake
        try:
            done = handshake.proceed(data)
        except HandshakeRefused as refused:
            self._say(handshake.engine.output())
            self._fail(str(refused))
            return
        self._say(first + handshake.engine.output())
        if done:
            unsent = self.unsent
            self.stop()
            self._on_done(handshake.engine, unsent)

    def _say(self, data: Buffer) -> None:
        if data:
            self.send(data)

    def _fail(self, reason: str) -> None:
        self.stop()
        self._on_failed(reason)
