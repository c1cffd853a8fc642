"""uvicorn on a socket that is bound already, made safe against clients that take their time.

uvicorn limits the time between requests and the size of a request's head, but not how long a head may take to come or
an answer to be read; and where it means to count requests it counts connections, so that a few dozen silent ones would
have health checks refused. Here a connection has a deadline for what is due next: a whole head, an answer, or that the
client has read it; no byte moves it. Requests in progress are counted, but for those of health checks. Where there are
too many connections, the one that has been without a request for longest makes room for the new one.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_DEADLINE = 5.0  # seconds for a head: from accept, or from the first byte of a further one
DEADLINE = 30.0  # seconds from a head to the answer, and from there until it is read; more than KEEP_ALIVE
LOCAL_DEADLINE = 300.0  # the same on the local socket
LAST_REQUESTS = 3.0  # seconds in which clients that have connected may still ask
KEEP_ALIVE = 5  # seconds a connection may be idle after an answer
MAX_HEAD = 16 << 10  # bytes of a request's line and headers
MAX_REQUESTS = 64  # requests in progress; the next is told 503
MAX_CONNECTIONS = 256  # connections open at a time
PROBES = frozenset({"/healthz", "/readyz"})  # cost nothing, and are asked when things are bad


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with deadlines."""

    patience = DEADLINE
    deadline: asyncio.TimerHandle | None = None
    idle_since = 0.0  # by the loop's clock
    awaits_head = True

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A client connected."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._due_in(HEAD_DEADLINE)
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        if self.deadline is not None:
            self.deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Bytes came, or an answer is done and what came with the last request has its turn."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self.awaits_head = False
            self._due_in(self.patience)
        elif self.is_idle and not self.awaits_head:
            self.awaits_head = True
            self._due_in(HEAD_DEADLINE)

    def on_response_complete(self) -> None:
        """An answer is done, as far as the application goes; the client may still have to read it."""
        self.idle_since = self.loop.time()
        self._due_in(self.patience)
        super().on_response_complete()

    def _due_in(self, seconds: float) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(seconds, self.transport.abort)

    def _make_room(self) -> None:
        """Cut the connection that has been without a request for longest; where each has one, the oldest of these."""
        others = [one for one in self.connections if isinstance(one, BoundedProtocol) and one is not self]
        oldest = min(others, key=lambda one: (not one.is_idle, one.idle_since))
        self.connections.discard(oldest)
        oldest.transport.abort()


class PatientProtocol(BoundedProtocol):
    """The same for the local socket, where an answer may be that to a reload."""

    patience = LOCAL_DEADLINE


class Bounded:
    """An application of which at most MAX_REQUESTS requests are in progress, probes not counted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say that there is too much to do."""
        if scope.get("path") in PROBES:
            await self._app(scope, receive, send)
        elif self._in_progress >= MAX_REQUESTS:
            busy = PlainTextResponse("too many requests at a time; try again\n", 503, {"connection": "close"})
            await busy(scope, receive, send)
        else:
            self._in_progress += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._in_progress -= 1


class Server(uvicorn.Server):
    """uvicorn as a task among others: signals are left alone."""

    def __init__(self, app: ASGIApp, protocol: type[BoundedProtocol] = BoundedProtocol) -> None:
        super().__init__(
            uvicorn.Config(
                Bounded(app),
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                backlog=MAX_CONNECTIONS,  # also how often asyncio tries to accept at a time, even when it cannot
                h11_max_incomplete_event_size=MAX_HEAD,
            )
        )

    async def listen(self, sock: socket.socket) -> None:
        """Begin to accept on a listening socket."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)  # sets the Date header
        await self.startup(sockets=[sock])

    async def keep_time(self) -> None:
        """Keep the Date header right, for ever."""
        while True:
            await asyncio.sleep(1)
            await self.on_tick(0)

    async def end(self) -> None:
        """Accept no more, answer what was asked, and what those that have just connected ask.

        Servers are closed at the end only: asyncio drops a connection that it has accepted, and made no transport for.
        """
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
        await asyncio.sleep(LAST_REQUESTS)
        await self.shutdown()
