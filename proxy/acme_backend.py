"""A server that answers ACME challenges, reached from a coroutine."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass

from proxy.backend import SocketBackend
from proxy.metrics import BackendMetrics

log = logging.getLogger("snigate.acme")


@dataclass(frozen=True, slots=True)
class AcmeBackend:
    """The backend of an http-redirect listener's `acme_backend`, and its metrics."""

    backend: SocketBackend
    metrics: BackendMetrics

    async def connect(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        """A connection. Raises ConnectionError with the reason in words."""
        began = loop.time()
        try:
            sock = await self._dialled(loop)
        except ConnectionError as error:
            if self.metrics.failed():
                log.error("backend %s cannot be reached: %s; challenges get 502 until it can", self.backend.name, error)
            raise
        if self.metrics.connected(loop.time() - began):
            log.info("backend %s can be reached again", self.backend.name)
        return sock

    async def _dialled(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        connected: asyncio.Future[socket.socket] = loop.create_future()
        dial = self.backend.dial(
            loop, None, connected.set_result, lambda reason: connected.set_exception(ConnectionError(reason))
        )
        try:
            return await asyncio.shield(connected)
        except asyncio.CancelledError:
            dial.cancel()
            if connected.done() and connected.exception() is None:
                connected.result().close()
            raise
