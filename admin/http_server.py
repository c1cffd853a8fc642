"""uvicorn on a socket that is bound already, made safe against clients that take their time.

uvicorn limits the time between requests and the size of a request's head, but not how long a head may take to come or
an answer to be read. So each connection has a deadline by which its next answer must have been sent; it is pushed on
when an answer is done, and by nothing else.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

DEADLINE = 30.0  # seconds from one answer (at first, from accept) to the next; more than KEEP_ALIVE
LOCAL_DEADLINE = 300.0  # the same on the local socket
LAST_REQUESTS = 1.0  # seconds in which clients that have connected may still ask
KEEP_ALIVE = 5  # seconds a connection may be idle after an answer
MAX_HEAD = 16 << 10  # bytes of a request's line and headers
MAX_REQUESTS = 64  # connections served at a time; the next is told 503
MAX_CONNECTIONS = 256  # connections open at a time; the next is cut


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with a deadline."""

    patience = DEADLINE
    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A client connected."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._push_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        if self.deadline is not None:
            self.deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An answer is done, as far as the application goes; the client may still have to read it."""
        self._push_on()
        super().on_response_complete()

    def _push_on(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(self.patience, self.transport.abort)


class PatientProtocol(BoundedProtocol):
    """The same for the local socket, where an answer may be that to a reload."""

    patience = LOCAL_DEADLINE


class Server(uvicorn.Server):
    """uvicorn as a task among others: signals are left alone."""

    def __init__(self, app: ASGIApp, protocol: type[BoundedProtocol] = BoundedProtocol) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_REQUESTS,
                timeout_keep_alive=KEEP_ALIVE,
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
        """Accept no more, answer what was asked, and what those that have just connected ask."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(LAST_REQUESTS)
        await self.shutdown()
