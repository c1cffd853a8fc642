"""Pools and dials inside the test's own event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.addresses import TcpAddress, UnixAddress
from config.model import BackendConfig
from proxy.backend import Connected, Established, Reaching
from proxy.backend_tls import BackendTls
from proxy.pool import Pool
from proxy.starttls.conversation import TurnedAway
from tests.support.service import backend_metrics


def pool(*servers: TcpAddress | UnixAddress | int, timeout: float = 5.0, **keys: Any) -> Pool:
    """A backend "web" of these servers (a number: a port on loopback), told nothing of clients unless `keys` say so."""
    config = BackendConfig(
        name="web",
        servers=tuple(TcpAddress("127.0.0.1", one) if isinstance(one, int) else one for one in servers),
        **{"client_address": "none", **keys},
    )
    needs_tls = config.tls != "off" or config.check == "tls"
    return Pool(config, timeout, BackendTls(config) if needs_tls else None, backend_metrics())


class Dialled:
    """Dials, and collects what came of it: a connection or a reason."""

    def __init__(self, one: Pool, established: Established | None = None) -> None:
        self.times_told = 0
        self._loop = asyncio.get_running_loop()
        self._reaching = Reaching(self._loop)
        self.dial = one.dial(self._loop, established, self)
        assert (self.dial is None) == bool(self.times_told), "who was told already has nothing to cancel"

    def reached(self, connected: Connected) -> None:
        """See Taker."""
        self.times_told += 1
        self._reaching.reached(connected)

    def not_reached(self, reason: str) -> None:
        """See Taker."""
        self.times_told += 1
        self._reaching.not_reached(reason)

    def turned_away(self, error: TurnedAway) -> None:
        """See Taker."""
        self.times_told += 1
        self._reaching.turned_away(error)

    def cancel(self) -> None:
        """Give up, if there is something to give up."""
        if self.dial is not None:
            self.dial.cancel()

    async def connected(self) -> Connected:
        """The connection."""
        return await self._reaching.connected(self.dial)

    async def reason(self) -> str:
        """Why there is none."""
        with pytest.raises(ConnectionError) as raised:
            await self._reaching.connected(self.dial)
        return str(raised.value)


async def visit(one: Pool) -> str:
    """Connect and end; the server that it was."""
    connected = await Dialled(one).connected()
    end(connected)
    return connected.server


def end(connected: Connected) -> None:
    """End a connection as a session does."""
    connected.drop()
