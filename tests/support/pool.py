"""Pools and dials inside the test's own event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from config.addresses import TcpAddress, UnixAddress
from config.model import BackendConfig
from proxy.backend import Connected, Dial, Established
from proxy.backend_tls import BackendTls
from proxy.pool import Pool
from tests.support.service import backend_metrics


def pool(*servers: TcpAddress | UnixAddress | int, timeout: float = 5.0, **keys: Any) -> Pool:
    """A backend "web" of these servers (a number: a port on loopback), told nothing of clients unless `keys` say so."""
    config = BackendConfig(
        name="web",
        servers=tuple(TcpAddress("127.0.0.1", one) if isinstance(one, int) else one for one in servers),
        **{"client_address": "none", **keys},
    )
    needs_tls = config.tls == "verify" or config.check == "tls"
    return Pool(config, timeout, BackendTls(config) if needs_tls else None, backend_metrics())


class Dialled:
    """Dials, and collects what came of it: a connection or a reason."""

    def __init__(self, one: Pool, established: Established | None = None) -> None:
        self.result: asyncio.Future[Connected | str] = asyncio.get_running_loop().create_future()
        self.called_early = False
        returned = False

        def settle(value: Connected | str) -> None:
            self.called_early = not returned
            self.result.set_result(value)

        self.dial: Dial = one.dial(asyncio.get_running_loop(), established, settle, settle)
        returned = True

    async def connected(self) -> Connected:
        """The connection."""
        result = await self.result
        assert isinstance(result, Connected), result
        assert not self.called_early
        return result

    async def reason(self) -> str:
        """Why there is none."""
        result = await self.result
        assert isinstance(result, str)
        assert not self.called_early
        return result


async def visit(one: Pool) -> str:
    """Connect and end; the server that it was."""
    connected = await Dialled(one).connected()
    end(connected)
    return connected.server


def end(connected: Connected) -> None:
    """End a connection as a session does."""
    connected.socket.close()
    connected.release()
