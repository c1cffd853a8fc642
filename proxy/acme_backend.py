"""A backend that answers ACME challenges, reached from a coroutine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.backend import Backend, Connected, Established
from proxy.metrics import BackendMetrics


@dataclass(frozen=True, slots=True)
class AcmeBackend:
    """The backend of an http-redirect listener's `acme_backend`, and its metrics."""

    backend: Backend
    metrics: BackendMetrics

    async def connect(self, loop: asyncio.AbstractEventLoop, established: Established) -> Connected:
        """A connection; who gets it closes it and calls its `release`. Raises ConnectionError, the reason in words."""
        began = loop.time()
        connected: asyncio.Future[Connected] = loop.create_future()
        dial = self.backend.dial(
            loop, established, connected.set_result, lambda reason: connected.set_exception(ConnectionError(reason))
        )
        try:
            found = await asyncio.shield(connected)
        except asyncio.CancelledError:
            dial.cancel()
            if connected.done() and connected.exception() is None:
                connected.result().drop(loop)
            raise
        loop.remove_reader(found.socket)
        self.metrics.connected(loop.time() - began)
        return found
