"""The servers of one backend: each connection goes to one of them, and on to the next where that one fails.

A connection tries each server once at most, and none of its client's bytes before it has reached one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.model import BackendConfig
from proxy import preamble
from proxy.backend import Connected, Dial, Established
from proxy.backend_tls import BackendTls
from proxy.balancer import Balancer
from proxy.dial import ServerDial
from proxy.metrics import BackendMetrics
from proxy.resolver import Resolver
from proxy.server import Server


class Pool:
    """A backend of servers that are reached by TCP or Unix sockets; see proxy.backend.Backend."""

    def __init__(
        self, config: BackendConfig, connect_timeout: float, tls: BackendTls | None, metrics: BackendMetrics
    ) -> None:
        """`tls`: needed where the configuration's `tls` or `check` asks for it."""
        self.name = config.name
        self.waits_for_handshake = config.client_address != "none"
        self.servers = tuple(
            Server(
                config.name,
                address,
                balance=config.balance,
                tls=tls.towards(address) if tls is not None and config.tls != "off" else None,
                metrics=metrics,
                alone=len(config.servers) == 1,
            )
            for address in config.servers
        )
        self.resolver = Resolver(config.name, self.servers)
        self._balancer = Balancer(config.balance, self.servers)
        self._told = config.client_address
        self._connect_timeout = connect_timeout

    def dial(
        self,
        loop: asyncio.AbstractEventLoop,
        established: Established | None,
        on_connected: Callable[[Connected], None],
        on_failed: Callable[[str], None],
    ) -> Dial:
        """See Backend.dial."""
        header = preamble.of_client(self._told, established)
        return PoolDial(loop, self._balancer, header, self._connect_timeout, on_connected, on_failed)


class PoolDial:
    """A connection to whichever server can be reached."""

    __slots__ = ("_balancer", "_connect_timeout", "_dial", "_header", "_loop", "_on_connected", "_on_failed", "_tried")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        balancer: Balancer[Server],
        header: bytes,
        connect_timeout: float,
        on_connected: Callable[[Connected], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._balancer = balancer
        self._header = header
        self._connect_timeout = connect_timeout
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._tried: list[Server] = []
        self._dial: ServerDial | None = None
        self._next()

    def cancel(self) -> None:
        """See Dial.cancel."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
            self._tried[-1].abandoned()

    def _next(self) -> bool:
        """Begin with the next server; False when there is none left."""
        server = self._balancer.choose(self._loop.time(), self._tried)
        if server is None:
            return False
        self._tried.append(server)
        self._dial = ServerDial(
            self._loop, server, server.tls, self._header, self._connect_timeout, self._reached, self._not_reached
        )
        return True

    def _reached(self, connected: Connected) -> None:
        self._dial = None
        server = self._tried[-1]
        server.reached()
        sock, layer, name, first, release = connected
        self._on_connected(Connected(sock, layer, name, first, _Lease(server, release).release))

    def _not_reached(self, reason: str) -> None:
        self._dial = None
        server = self._tried[-1]
        server.not_reached(reason, self._loop.time())
        if not self._next():
            count = len(self._tried)
            self._on_failed(reason if count == 1 else f"none of {count} servers, the last {server.name}: {reason}")


class _Lease:
    """A connection's place among those of its server and of the server's address."""

    __slots__ = ("_release_address", "_server")

    def __init__(self, server: Server, release_address: Callable[[], None]) -> None:
        self._server = server
        self._release_address = release_address

    def release(self) -> None:
        """The connection has ended."""
        self._server.release()
        self._release_address()
