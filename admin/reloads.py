"""Reloads that were asked of the control process: passed on to the supervisor, answered when it has seen to them."""

from __future__ import annotations

import asyncio
from itertools import count

from admin.answers import Reloaded
from admin.text import plain
from proxy.channel import Channel, Message


class Reloads:
    """Those that wait for their outcome."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Reloaded]] = {}

    async def ask(self) -> Reloaded:
        """Have the configuration loaded again; the outcome."""
        number = next(self._numbers)
        outcome: asyncio.Future[Reloaded] = asyncio.get_running_loop().create_future()
        self._waiting[number] = outcome
        try:
            self._channel.say({"reload": number})
            return await outcome
        finally:
            del self._waiting[number]

    def hear(self, message: Message) -> None:
        """Take in an outcome, in the supervisor's words; who asked may have gone."""
        outcome = self._waiting.get(message["request"])
        if outcome is not None and not outcome.done():
            problems = tuple(map(plain, message["problems"]))
            outcome.set_result(Reloaded(not problems, message["generation"], problems))
