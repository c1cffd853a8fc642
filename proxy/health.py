"""Active checks: whether each server of a backend answers, asked every `check_interval` by each worker for itself.

A check is a connection of snigate's own: made like a client's, with a PROXY header that says so where the server wants
one, and then closed (tcp), closed after a TLS handshake (tls), or asked for a page (http).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

import h11

from config.addresses import TcpAddress
from config.model import BackendConfig
from proxy import backend_header
from proxy.backend import Connected, Reaching
from proxy.backend_tls import BackendTls, ServerTls
from proxy.dial import ServerDial
from proxy.server import Server
from proxy.tls_engine import TlsError

MAX_HEAD = 16 << 10  # bytes of an answer's head
READ_SIZE = 4096
_SPREAD = 0.618034  # the golden ratio: its multiples, whole parts left out, lie far apart however many there are


class CheckFailed(Exception):  # noqa: N818 - what happened, in its own words
    """A check failed; the message says why."""


class HealthChecks:
    """The checks of one backend."""

    def __init__(self, config: BackendConfig, tls: BackendTls | None, timeout: float) -> None:
        """`tls`: needed where the configuration's `tls` or `check` asks for it. `timeout`: seconds for each check."""
        self._config = config
        self._tls = tls
        self._timeout = timeout
        self._header = backend_header.of_snigate(config.client_address)

    async def keep(self, servers: Iterable[Server], worker: int) -> None:
        """Check every server now and again, for ever. Workers, by their number, and servers take turns."""
        if self._config.check != "off":
            await asyncio.gather(
                *(self._keep(server, (worker + place) * _SPREAD % 1.0) for place, server in enumerate(servers))
            )

    async def _keep(self, server: Server, share: float) -> None:
        interval = self._config.check_interval
        await asyncio.sleep(interval * share)
        while True:
            await self.check(server)
            await asyncio.sleep(interval)

    async def check(self, server: Server) -> None:
        """Check one server, and let it know how that went."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._check(server)
        except TimeoutError:
            server.failed_check(f"it was not done within {self._timeout:g} s")
        except CheckFailed as failed:
            server.failed_check(str(failed))
        else:
            server.passed_check()

    async def _check(self, server: Server) -> None:
        """Raises CheckFailed."""
        connected = await self._connect(server)
        try:
            exchange = _Exchange(connected)
            await exchange.send_raw(connected.first)
            if self._config.check == "http":
                await self._ask(exchange, server)
            await exchange.send_raw(bytes(connected.layer.close()))
        except OSError as error:
            raise CheckFailed(f"{os.strerror(error.errno or 0)}, when it was asked") from None
        except TlsError as error:
            raise CheckFailed(f"it broke TLS ({error})") from None
        finally:
            connected.drop()

    async def _connect(self, server: Server) -> Connected:
        loop = asyncio.get_running_loop()
        reaching = Reaching(loop)
        dial = ServerDial(loop, server, self._tls_for(server), self._header, self._timeout, reaching)
        dial.begin()
        try:
            return await reaching.connected(dial)
        except ConnectionError as error:
            raise CheckFailed(str(error)) from None

    def _tls_for(self, server: Server) -> ServerTls | None:
        if self._config.check == "tcp":
            return None
        if self._config.check == "tls" and self._tls is not None:
            return self._tls.towards(server.address)
        return server.tls

    async def _ask(self, exchange: _Exchange, server: Server) -> None:
        path, wanted = self._config.check_path, self._config.check_status
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        headers = [("host", self._host_of(server)), ("user-agent", "snigate"), ("connection", "close")]
        try:
            await exchange.send(http.send(h11.Request(method="GET", target=path, headers=headers)) or b"")
            await exchange.send(http.send(h11.EndOfMessage()) or b"")
            while not isinstance(event := http.next_event(), h11.Response):
                if event is h11.NEED_DATA:
                    http.receive_data(await exchange.receive())
        except h11.RemoteProtocolError as error:
            raise CheckFailed(f"its answer to GET {path} is not HTTP/1.1 ({error})") from None
        if event.status_code not in wanted:
            raise CheckFailed(
                f"it answered GET {path} with {event.status_code}, not with {' or '.join(map(str, wanted))}"
            )

    def _host_of(self, server: Server) -> str:
        address = server.address
        host = self._config.tls_name or (address.host if isinstance(address, TcpAddress) else None) or "localhost"
        return f"[{host}]" if ":" in host else host


class _Exchange:
    """Bytes of the stream to and from a connected server."""

    def __init__(self, connected: Connected) -> None:
        self._socket = connected.dress()
        self._layer = connected.layer
        self._loop = asyncio.get_running_loop()

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if data:
            await self._loop.sock_sendall(self._socket, data)

    async def send(self, data: bytes) -> None:
        """Send a part of the stream."""
        await self.send_raw(bytes(self._layer.encode(data)) if data else b"")

    async def receive(self) -> bytes:
        """What of the stream comes next; empty at its end."""
        while not self._layer.ended:
            raw = await self._loop.sock_recv(self._socket, READ_SIZE)
            data = bytes(self._layer.decode(raw))
            await self.send_raw(bytes(self._layer.output()))
            if data or not raw:
                return data
        return b""
