"""The addresses behind servers' names, looked up beforehand and again and again: a connect never waits for a name.

Each name has a task of its own, so one that takes long to resolve holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from config.addresses import Address, UnixAddress

if TYPE_CHECKING:
    from proxy.server import Server

log = logging.getLogger("snigate.backend")

RESOLVE_EVERY = 30.0  # seconds between look-ups of a name
RESOLVE_SOON = 2.0  # the same, while no look-up has succeeded yet

Target = tuple[int, Any]  # address family, and a socket address of that family


def targets_without_look_up(address: Address) -> list[Target]:
    """The targets of a Unix socket or an IP address; none for a name."""
    if isinstance(address, UnixAddress):
        return [(socket.AF_UNIX, str(address.path))]
    try:
        answers = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except socket.gaierror:
        return []
    return [(family, target) for family, _, _, _, target in answers]


class Resolver:
    """Keeps the servers of one backend at their names' addresses."""

    def __init__(self, backend: str, servers: Iterable[Server]) -> None:
        self._backend = backend
        self._named = []
        self._failing: set[Server] = set()
        for server in servers:
            targets = targets_without_look_up(server.address)
            server.resolved(targets)
            if not targets:
                self._named.append(server)

    async def first(self) -> None:
        """Look every name up once."""
        await asyncio.gather(*map(self._resolve, self._named))

    async def keep(self) -> None:
        """Look every name up now and again, for ever."""
        await asyncio.gather(*map(self._keep, self._named))

    async def _keep(self, server: Server) -> None:
        while True:
            await asyncio.sleep(RESOLVE_EVERY if server.addresses.members else RESOLVE_SOON)
            await self._resolve(server)

    async def _resolve(self, server: Server) -> None:
        address = server.address
        assert not isinstance(address, UnixAddress)
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            if server not in self._failing:
                self._failing.add(server)
                rest = "; its last addresses are used" if server.addresses.members else ""
                log.error(
                    "backend %s: the name %s does not resolve (%s)%s; correct it or the resolver",
                    *(self._backend, address.host, error, rest),
                )
            return
        if server in self._failing:
            self._failing.discard(server)
            log.info("backend %s: the name %s resolves again", self._backend, address.host)
        server.resolved((family, target) for family, _, _, _, target in answers)
