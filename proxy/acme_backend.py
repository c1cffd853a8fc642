"""A backend that answers ACME challenges, reached from a coroutine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.backend import Backend, Connected, Established, Reaching
from proxy.metrics import BackendMetrics


@dataclass(frozen=True, slots=True)
class AcmeBackend:
    """The backend of an http-redirect listener's `acme_backend`, and its metrics."""

    backend: Backend
    metrics: BackendMetrics

    async def connect(self, loop: asyncio.AbstractEventLoop, established: Established) -> Connected:
        """A connection; who gets it closes it and calls its `release`. Raises ConnectionError, the reason in words."""
        began = loop.time()
        reaching = Reaching(loop)
        found = await reaching.connected(self.backend.dial(loop, established, reaching))
        self.metrics.connected(loop.time() - began)
        return found
