"""Two streams between a client and a backend, until both have ended.

How it works. Each direction is a source that is read when its socket is readable, and an outlet that it feeds. While
the outlet is blocked, its source is not read, so each direction holds at most one read. Reads go into one buffer that
all relays of a worker share: an idle connection owns none. On either leg lies TLS, or nothing: see proxy.layer.

Endings are truthful. What one leg says, the other is told, and nothing else:

    an end of the stream    -> an end of the stream (close_notify where the leg has TLS, then FIN); the other direction
                               may go on
    reset on one leg        -> reset on the other
    client FIN without close_notify, while the backend still waits for more: the stream was cut short; the backend is
                               reset, so that it never takes the part for the whole
    backend FIN without close_notify: the client gets what there was, and FIN without close_notify
    a TLS error             -> the alert to the one who made it, reset to the other
    silence for too long    -> FIN without close_notify to the client; reset to a backend that still waits for more

Where there is no TLS on a leg, its FIN is the end of the stream.

The relay is over when both directions have ended and everything is delivered, or when one of the above cuts it short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from socket import SocketType

from proxy.deadlines import Deadlines
from proxy.errors import Outcome
from proxy.layer import Buffer
from proxy.leg import Leg
from proxy.outlet import OutletStage
from proxy.pipe import AVAILABLE
from proxy.poller import Loop, Poller
from proxy.spliced_leg import SplicedLeg
from proxy.tls_engine import TlsEngine

LINGER = 30.0  # seconds without traffic after which a client that was told the end is no longer waited for


class Patience:
    """For how many seconds relays may be silent: usually, and when nothing but the client's own end is missing."""

    __slots__ = ("idle", "linger")

    def __init__(self, loop: Loop, idle_timeout: float) -> None:
        self.idle = Deadlines(loop, idle_timeout)
        self.linger = Deadlines(loop, min(LINGER, idle_timeout))


class Relay:
    """Relays until the end, then closes both sockets and calls `on_end` once with how it ended."""

    __slots__ = (
        "_backend",
        "_client",
        "_loop",
        "_on_end",
        "_passed",
        "_patience",
        "_timer",
        "_truncated",
        "last",
        "over",
    )

    def __init__(
        self,
        loop: Poller,
        client: tuple[SocketType, TlsEngine | None],
        backend: tuple[SocketType, TlsEngine | None],
        buffer: memoryview,
        patience: Patience,
        on_end: Callable[[Outcome], None],
    ) -> None:
        """`client` and `backend`: a socket, and the TLS that is spoken on it, if any."""
        self._loop = loop
        self._patience = patience
        self._on_end = on_end
        self._client: Leg
        self._backend: Leg
        if AVAILABLE and client[1] is backend[1] is None:
            self._client = SplicedLeg(self, loop, client[0], buffer)
            self._backend = SplicedLeg(self, loop, backend[0], buffer)
        else:
            self._client = Leg(self, loop, *client, buffer)
            self._backend = Leg(self, loop, *backend, buffer)
        self._client.other, self._backend.other = self._backend, self._client
        self._truncated = False  # by the backend
        self._passed = 0, 0  # once over, to the backend and to the client
        self._timer: asyncio.TimerHandle | None = None
        self.over = False
        self.last = now = loop.time()
        patience.idle.set(self, now)

    @property
    def bytes_to_backend(self) -> int:
        """Bytes of the client's stream that were passed on."""
        return self._passed[0] if self.over else self._backend.passed

    @property
    def bytes_to_client(self) -> int:
        """Bytes of the backend's stream that were passed on."""
        return self._passed[1] if self.over else self._client.passed

    def start(self, to_backend: Buffer = b"", to_client: Buffer = b"", said: Buffer = b"") -> None:
        """Begin. `to_backend` (a PROXY header) and `to_client` (handshake bytes) go first, as they are.

        `said`: what has been taken off the client's socket already.
        """
        backend, client = self._backend, self._client
        if to_backend:
            backend.give(to_backend)
        if said and not self.over:
            backend.pass_on(said)
        if to_client:
            client.give(to_client)
        for leg in (backend, client):
            if not self.over:
                leg.start()

    def slim(self) -> None:
        """Give back memory that is not needed while nothing moves."""
        self._client.slim()
        self._backend.slim()

    def cut(self, outcome: Outcome) -> None:
        """End at once, both legs reset."""
        self._end(outcome, reset_client=True, reset_backend=True)

    def heard_end(self, leg: Leg) -> None:
        """See Hub."""
        other = leg.other
        other.finish()
        self._told(other)

    def heard_truncation(self, leg: Leg) -> None:
        """See Hub."""
        if leg is self._client:
            if self._is_delivered():  # told the end, it answers with its own, as most clients do
                leg.end()
            else:
                self._end(Outcome.TRUNCATED_BY_CLIENT, reset_backend=True)
        else:
            self._truncated, other = True, leg.other
            other.cut_short()
            self._told(other)

    def broken(self, leg: Leg) -> None:
        """See Hub."""
        if leg is self._client:
            self._end(Outcome.PROTOCOL_ERROR, reset_backend=True)
        else:
            self._end(Outcome.BACKEND_PROTOCOL_ERROR, reset_client=True)

    def flooded(self, leg: Leg) -> None:
        """See Hub."""
        ours = leg is self._client
        outcome = Outcome.PROTOCOL_ERROR if ours else Outcome.BACKEND_PROTOCOL_ERROR
        self._end(outcome, reset_client=True, reset_backend=True)

    def failed(self, leg: Leg) -> None:
        """See Hub."""
        if leg is self._backend:
            self._end(Outcome.RESET_BY_BACKEND, reset_client=True, reset_backend=True)
        else:
            self._end(Outcome.SERVED if self._is_delivered() else Outcome.RESET_BY_CLIENT, reset_backend=True)

    def send_failed(self, leg: Leg) -> None:
        """See Hub. What a backend said before is still to be had: an early "too large" answer, say."""
        if leg is self._backend:
            leg.drain_socket()
        if not self.over:
            self.failed(leg)

    def finished(self) -> None:
        """See Hub."""
        if not self.over and self._client.stage is OutletStage.FINISHED:
            if self._truncated:
                self._end(Outcome.TRUNCATED_BY_BACKEND, reset_backend=not self._client.ended)
            elif self._backend.stage is OutletStage.FINISHED:
                self._end(Outcome.SERVED)

    def overdue(self) -> None:
        """Nothing has moved for long enough, unless something has since the deadline was set."""
        if self.over:
            return
        delivered, patience = self._is_delivered(), self._patience
        limit = (patience.linger if delivered else patience.idle).seconds
        remaining = self.last + limit - self._loop.time()
        if remaining > 0:
            self._timer = self._loop.call_later(remaining, self.overdue)
        else:
            self._end(Outcome.SERVED if delivered else Outcome.IDLE, reset_backend=not self._client.ended)

    def _told(self, leg: Leg) -> None:
        """A leg's peer is being told the end."""
        self.finished()
        if not self.over and leg is self._client:  # from now on it is not waited for as long
            self._clear_deadlines()
            self._patience.linger.set(self, self._loop.time())

    def _is_delivered(self) -> bool:
        """Whether the client was told the end, and all the backend sent has left for it."""
        return self._client.told

    def _clear_deadlines(self) -> None:
        self._patience.idle.clear(self)
        self._patience.linger.clear(self)
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, outcome: Outcome, *, reset_client: bool = False, reset_backend: bool = False) -> None:
        if self.over:
            return
        self.over = True
        self._clear_deadlines()
        client, backend = self._client, self._backend
        client.close(abruptly=reset_client)
        backend.close(abruptly=reset_backend)
        self._passed = backend.passed, client.passed
        self._on_end(outcome)
        # Without circles among them, they and all that they hold are gone before the next connection is served.
        del self._client, self._backend, client.other, backend.other
