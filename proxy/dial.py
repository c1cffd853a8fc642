"""Connecting to one server: its addresses one after the other, each with a non-blocking connect and one writer.

    CONNECTING    until the kernel says how the connect went
    HANDSHAKING   only where the server has TLS: the PROXY header and the ClientHello are sent in one, then OpenSSL has
                  the word until the handshake is done and the certificate verified
    OVER          one of the callbacks was called, or the dial was cancelled

One deadline covers all of it, and each address gets its equal share of what is left for its connect. Nothing of the
client's has been sent, so an address that fails costs nothing but time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from enum import Enum

from proxy.backend import Connected
from proxy.backend_tls import HandshakeRefused, ServerHandshake, ServerTls
from proxy.layer import PLAIN_TEXT, Layer
from proxy.server import Server, ServerAddress

RETRY_UNIX = 0.02  # seconds between attempts while a Unix socket's queue is full
READ_SIZE = 16 << 10  # bytes read at once during the handshake


class State(Enum):
    """Where a dial is in its life."""

    CONNECTING = "connecting"
    HANDSHAKING = "handshaking"
    OVER = "over"


class ServerDial:
    """One attempt to reach a server. Calls one of the callbacks, and never before it is made."""

    __slots__ = (
        "_address",
        "_deadline",
        "_handshake",
        "_header",
        "_loop",
        "_on_connected",
        "_on_failed",
        "_server",
        "_socket",
        "_state",
        "_timeout",
        "_timer",
        "_tls",
        "_tried",
        "_unsent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: Server,
        tls: ServerTls | None,
        header: bytes,
        timeout: float,
        on_connected: Callable[[Connected], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """`header` goes before everything else, TLS included; without TLS it is left to the caller to send.

        `on_connected` gets a connection whose `release` is that of the server's address alone.
        """
        self._loop = loop
        self._server = server
        self._tls = tls
        self._header = header
        self._timeout = timeout
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._deadline = loop.time() + timeout
        self._tried: list[ServerAddress] = []
        self._address: ServerAddress | None = None
        self._handshake: ServerHandshake | None = None
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._state = State.CONNECTING
        self._timer: asyncio.Handle | None = None
        self._next("its name does not resolve")

    def cancel(self) -> None:
        """See Dial.cancel."""
        if self._state is not State.OVER:
            self._state = State.OVER
            if self._address is not None:
                self._address.abandoned()
            self._drop()

    def _next(self, reason: str) -> None:
        """Go on with the next address; where there is none, all have failed, the last for `reason`."""
        loop, addresses = self._loop, self._server.addresses
        self._state = State.CONNECTING
        self._address = address = addresses.choose(loop.time(), self._tried)
        if address is None:
            self._timer = loop.call_soon(self._give_up, reason)
            return
        self._tried.append(address)
        family, _ = address.target
        try:
            self._socket = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self._timer = loop.call_soon(self._failed, os.strerror(error.errno or 0))
            return
        left = max(len(addresses.members) - len(self._tried) + 1, 1)  # this one included
        share = (self._deadline - loop.time()) / left
        self._timer = loop.call_later(share, self._not_answered, share)
        self._connect()

    def _connect(self) -> None:
        if self._socket is None or self._address is None:
            return
        code = self._socket.connect_ex(self._address.target[1])
        if code == errno.EAGAIN:  # a Unix socket whose queue is full does not announce when it is not
            self._loop.call_later(RETRY_UNIX, self._connect)
        elif code in (0, errno.EINPROGRESS):
            self._loop.add_writer(self._socket, self._settled)
        else:
            self._stop_timer()
            self._timer = self._loop.call_soon(self._failed, os.strerror(code))

    def _not_answered(self, share: float) -> None:
        self._failed(f"no answer within {share:.2g} s")

    def _settled(self) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(os.strerror(code))
            return
        self._step_aside()
        self._loop.remove_writer(self._socket)
        self._stop_timer()
        if self._tls is None:
            self._succeed(PLAIN_TEXT, self._header)
            return
        self._state = State.HANDSHAKING
        self._timer = self._loop.call_at(
            self._deadline, self._failed, f"the TLS handshake was not done within {self._timeout:g} s"
        )
        self._handshake = self._tls.begin()
        self._loop.add_reader(self._socket, self._readable)
        self._shake_hands(b"", self._header)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._failed(f"{os.strerror(error.errno or 0)}, during the TLS handshake")
            return
        if data:
            self._shake_hands(data)
        else:
            self._failed("it closed the connection during the TLS handshake (its log may say why)")

    def _shake_hands(self, data: bytes, first: bytes = b"") -> None:
        handshake = self._handshake
        assert handshake is not None
        try:
            done = handshake.proceed(data)
        except HandshakeRefused as refused:
            with contextlib.suppress(OSError):
                self._send(bytes(handshake.engine.output()))
            self._failed(str(refused))
            return
        try:
            self._send(first + handshake.engine.output())
        except OSError as error:
            self._failed(f"{os.strerror(error.errno or 0)}, during the TLS handshake")
            return
        if done:
            assert self._socket is not None
            self._stop_timer()
            self._step_aside()
            if self._unsent:
                self._loop.remove_writer(self._socket)
            self._succeed(handshake.engine, self._unsent)

    def _send(self, data: bytes) -> None:
        """Send `data` behind what is still unsent. Raises OSError."""
        assert self._socket is not None
        had, self._unsent = bool(self._unsent), self._unsent + data
        if not self._unsent:
            return
        with contextlib.suppress(BlockingIOError, InterruptedError):
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if self._unsent and not had:
            self._loop.add_writer(self._socket, self._send_rest)
        elif had and not self._unsent:
            self._loop.remove_writer(self._socket)

    def _send_rest(self) -> None:
        try:
            self._send(b"")
        except OSError as error:
            self._failed(f"{os.strerror(error.errno or 0)}, during the TLS handshake")

    def _step_aside(self) -> None:
        """Read no more, but keep the socket known to the event loop, which costs less than to tell it again."""
        assert self._socket is not None
        self._loop.add_reader(self._socket, self._loop.remove_reader, self._socket)

    def _succeed(self, layer: Layer, first: bytes) -> None:
        """Hand the socket over."""
        sock, address = self._socket, self._address
        assert sock is not None
        assert address is not None
        self._state = State.OVER
        self._socket = None
        address.succeeded()
        self._on_connected(Connected(sock, layer, self._server.name, first, address.release))

    def _failed(self, reason: str) -> None:
        """The address could not be used: on with the next."""
        assert self._address is not None
        now = self._loop.time()
        self._drop()
        self._address.failed(now)
        self._address = None
        if now < self._deadline:
            self._next(reason)
        else:
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        self._state = State.OVER
        self._on_failed(reason)

    def _drop(self) -> None:
        """Close what the attempt has open."""
        self._stop_timer()
        self._unsent = b""
        self._handshake = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
