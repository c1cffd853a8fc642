"""TLS on a new connection to a server, until the handshake is done and the certificate verified."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from proxy.backend_tls import HandshakeRefused, ServerHandshake
from proxy.layer import Buffer
from proxy.poller import Loop
from proxy.tls_engine import TlsEngine

READ_SIZE = 16 << 10  # bytes read at once


class Securing:
    """One handshake. Calls one of the callbacks, and then leaves the socket alone."""

    __slots__ = ("_handshake", "_loop", "_on_done", "_on_failed", "_socket", "_unsent")

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        handshake: ServerHandshake,
        on_done: Callable[[TlsEngine, bytes], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """`on_done` gets the engine, and what the server is still to be sent; `on_failed` the reason, in words."""
        self._loop = loop
        self._socket = sock
        self._handshake = handshake
        self._on_done = on_done
        self._on_failed = on_failed
        self._unsent = b""

    def begin(self, header: bytes) -> None:
        """Send `header` and the ClientHello in one, and go on from there."""
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._proceed(b"", header)

    def stop(self) -> None:
        """Leave the socket alone."""
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
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
            with contextlib.suppress(OSError):
                self._send(handshake.engine.output())
            self._fail(str(refused))
            return
        try:
            self._send(first + handshake.engine.output())
        except OSError as error:
            self._fail(f"{os.strerror(error.errno or 0)}, during the TLS handshake")
            return
        if done:
            self.stop()
            self._on_done(handshake.engine, self._unsent)

    def _send(self, data: Buffer) -> None:
        """Send `data` behind what is still unsent. Raises OSError."""
        had, self._unsent = bool(self._unsent), self._unsent + data
        if not self._unsent:
            return
        with contextlib.suppress(BlockingIOError, InterruptedError):
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if self._unsent and not had:
            self._loop.add_writer(self._socket.fileno(), self._send_rest)
        elif had and not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _send_rest(self) -> None:
        try:
            self._send(b"")
        except OSError as error:
            self._fail(f"{os.strerror(error.errno or 0)}, during the TLS handshake")

    def _fail(self, reason: str) -> None:
        self.stop()
        self._on_failed(reason)
