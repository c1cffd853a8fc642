"""A worker or control process that the keeper tells of certificates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from certstore.messages import Hello, ReplicaState

log = logging.getLogger("snigate.keeper")

MAX_BEHIND = 128 << 20  # bytes a subscriber may leave unread


class Subscriber:
    """One connected worker or control process."""

    def __init__(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.hello = hello
        self.state = ReplicaState(hello.number, hello.pid, 0, 0, "")
        self._writer = writer
        self._later: list[bytes] | None = []  # what is said until it has been sent everything

    async def catch_up(self, messages: Iterable[bytes]) -> None:
        """Send everything, no faster than it is read, and then what was said meanwhile."""
        self._later = []  # what was said before is in these
        for message in messages:
            self._writer.write(message)
            await self._writer.drain()
        later, self._later = self._later or [], None
        for message in later:
            self.send(message)

    def send(self, message: bytes) -> None:
        """Send what is new."""
        transport = self._writer.transport
        behind = transport.get_write_buffer_size() + sum(map(len, self._later or ()))
        if behind + len(message) > MAX_BEHIND:
            log.warning("%s %d does not read; it is disconnected", self.hello.role, self.hello.number)
            transport.abort()
        elif self._later is not None:
            self._later.append(message)
        else:
            self._writer.write(message)
