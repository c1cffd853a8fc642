"""Two streams between a TLS client and a plain-text backend, until both have ended.

How it works. Each direction is a source that is read when its socket is readable, and an outlet that it feeds. While
the outlet is blocked, its source is not read, so each direction holds at most one read. Reads go into one buffer that
all relays of a worker share: an idle connection owns none.

Endings are truthful. What one leg says, the other is told, and nothing else:

    client close_notify     -> FIN to the backend; the backend may go on sending
    backend FIN             -> close_notify and FIN to the client; the client may go on sending
    reset on one leg        -> reset on the other
    client FIN without close_notify, while the backend still waits for more: the stream was cut short; the backend is
                               reset, so that it never takes the part for the whole
    a TLS error             -> the alert to the client, reset to the backend
    silence for too long    -> FIN without close_notify to the client; reset to a backend that still waits for more

The relay is over when both directions have ended and everything is delivered, or when one of the above cuts it short.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from proxy.errors import Outcome
from proxy.outlet import Outlet, OutletState
from proxy.tls_engine import TlsEngine, TlsError

READ_SIZE = 256 << 10  # bytes read from a socket at once, and so what a direction holds at most (beside TLS framing)
# A client that reads nothing can still make OpenSSL answer, with KeyUpdates: beyond this, it is cut off.
MAX_HELD = 2 * READ_SIZE
LINGER = 30.0  # seconds without traffic after which a client that was told the end is no longer waited for

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


def shared_buffer() -> memoryview:
    """The buffer that all relays of one event loop read into."""
    return memoryview(bytearray(READ_SIZE))


def reset(sock: socket.socket) -> None:
    """Close a socket so that its peer sees a reset, not an end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


class Relay:
    """Relays until the end, then closes both sockets and calls `on_end` once with how it ended."""

    __slots__ = (
        "_backend",
        "_backend_outlet",
        "_buffer",
        "_client",
        "_client_outlet",
        "_engine",
        "_idle_timeout",
        "_last",
        "_loop",
        "_on_end",
        "_over",
        "_timer",
        "_upstream_ended",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: socket.socket,
        engine: TlsEngine,
        backend: socket.socket,
        buffer: memoryview,
        idle_timeout: float,
        on_end: Callable[[Outcome], None],
    ) -> None:
        self._loop = loop
        self._client = client
        self._engine = engine
        self._backend = backend
        self._buffer = buffer
        self._idle_timeout = idle_timeout
        self._on_end = on_end
        self._client_outlet = Outlet(loop, client, self._client_drained, self._client_failed)
        self._backend_outlet = Outlet(loop, backend, self._backend_drained, self._backend_send_failed)
        self._upstream_ended = False  # the client has said close_notify
        self._over = False
        self._last = loop.time()
        self._timer = loop.call_later(idle_timeout, self._on_timer)

    @property
    def bytes_to_backend(self) -> int:
        """Plain-text bytes that the backend's kernel socket has taken."""
        return self._backend_outlet.sent

    @property
    def bytes_to_client(self) -> int:
        """TLS bytes that the client's kernel socket has taken."""
        return self._client_outlet.sent

    def start(self, preamble: bytes = b"", unsent: bytes = b"") -> None:
        """Begin: `preamble` (a PROXY header) goes to the backend, `unsent` (handshake bytes) to the client, first."""
        if preamble:
            self._backend_outlet.send(preamble)
        if unsent and not self._over:
            self._client_outlet.send(unsent)
        if self._over:
            return
        self._loop.add_reader(self._backend, self._backend_readable)
        self._loop.add_reader(self._client, self._client_readable)
        self._decrypt()

    def cut(self, outcome: Outcome) -> None:
        """End at once, both legs reset."""
        self._end(outcome, reset_client=True, reset_backend=True)

    def _client_readable(self) -> None:
        try:
            size = self._client.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._client_failed(error)
            return
        self._last = self._loop.time()
        if size == 0:
            self._client_fin()
        elif not self._upstream_ended:  # what follows a close_notify is not part of the stream
            self._engine.receive(self._buffer[:size])
            self._decrypt()

    def _decrypt(self) -> None:
        """Pass on what the engine has for either side."""
        try:
            plaintext = self._engine.read()
        except TlsError:
            self._tell_client(self._engine.output())
            self._end(Outcome.PROTOCOL_ERROR, reset_backend=True)
            return
        self._tell_client(self._engine.output())
        if plaintext and not self._over:
            self._backend_outlet.send(plaintext)
            if self._backend_outlet.blocked:
                self._loop.remove_reader(self._client)
        if self._engine.ended and not self._over:
            self._upstream_ended = True
            self._backend_outlet.finish()
            self._end_if_done()

    def _client_fin(self) -> None:
        self._loop.remove_reader(self._client)
        told = self._client_outlet.state is OutletState.FINISHED
        if self._upstream_ended:
            return
        if told:  # it was told the end and answers with its own, as most clients do, without a close_notify
            self._upstream_ended = True
            self._backend_outlet.finish()
            self._end_if_done()
        else:
            self._end(Outcome.TRUNCATED_BY_CLIENT, reset_backend=True)

    def _backend_readable(self) -> None:
        try:
            size = self._backend.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._backend_failed(error)
            return
        self._last = self._loop.time()
        if size == 0:
            self._loop.remove_reader(self._backend)
            self._tell_client(self._engine.close())
            self._client_outlet.finish()
            if self._over:
                return
            self._timer.cancel()
            self._on_timer()
            self._end_if_done()
            return
        try:
            ciphertext = self._engine.write(self._buffer[:size])
        except TlsError:
            self._end(Outcome.PROTOCOL_ERROR, reset_backend=True)
            return
        self._tell_client(ciphertext)

    def _tell_client(self, ciphertext: bytes) -> None:
        if ciphertext and not self._over:
            self._client_outlet.send(ciphertext)
            if self._client_outlet.held > MAX_HELD:
                self._end(Outcome.PROTOCOL_ERROR, reset_client=True, reset_backend=True)
            elif self._client_outlet.blocked:
                self._loop.remove_reader(self._backend)

    def _client_drained(self) -> None:
        self._last = self._loop.time()
        if self._client_outlet.state is OutletState.OPEN:
            self._loop.add_reader(self._backend, self._backend_readable)
        self._end_if_done()

    def _backend_drained(self) -> None:
        self._last = self._loop.time()
        if not self._upstream_ended:
            self._loop.add_reader(self._client, self._client_readable)
        self._end_if_done()

    def _client_failed(self, _error: OSError) -> None:
        self._end(Outcome.SERVED if self._is_delivered() else Outcome.RESET_BY_CLIENT, reset_backend=True)

    def _backend_failed(self, _error: OSError) -> None:
        self._end(Outcome.RESET_BY_BACKEND, reset_client=True, reset_backend=True)

    def _backend_send_failed(self, error: OSError) -> None:
        """The backend takes no more. What it said before is still to be had: an early "too large" answer, say."""
        while not self._over and not self._client_outlet.blocked:
            try:
                size = self._backend.recv_into(self._buffer)
                if size == 0:
                    break
                self._tell_client(self._engine.write(self._buffer[:size]))
            except (OSError, TlsError):
                break
        self._backend_failed(error)

    def _is_delivered(self) -> bool:
        """Whether the backend has ended and all it sent has left for the client."""
        return self._client_outlet.state is OutletState.FINISHED

    def _end_if_done(self) -> None:
        if self._is_delivered() and self._backend_outlet.state is OutletState.FINISHED:
            self._end(Outcome.SERVED)

    def _on_timer(self) -> None:
        if self._over:
            return
        limit = min(LINGER, self._idle_timeout) if self._is_delivered() else self._idle_timeout
        remaining = self._last + limit - self._loop.time()
        if remaining > 0:
            self._timer = self._loop.call_later(remaining, self._on_timer)
        else:
            outcome = Outcome.SERVED if self._is_delivered() else Outcome.IDLE
            self._end(outcome, reset_backend=not self._upstream_ended)

    def _end(self, outcome: Outcome, *, reset_client: bool = False, reset_backend: bool = False) -> None:
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        for sock, outlet, abruptly in (
            (self._client, self._client_outlet, reset_client),
            (self._backend, self._backend_outlet, reset_backend),
        ):
            self._loop.remove_reader(sock)
            outlet.close()
            if abruptly:
                reset(sock)
            else:
                sock.close()
        self._on_end(outcome)
