"""Hours that pass in a moment: a poller's clock and timers, moved by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from proxy.poller import Poller


class _Timer(asyncio.TimerHandle):
    __slots__ = ("call", "due", "given_up")

    def __init__(self, due: float, call: Callable[[], object]) -> None:
        self.due, self.call, self.given_up = due, call, False

    def cancel(self) -> None:
        self.given_up = True


class SimulatedTime(Poller):
    """A Loop whose sockets are real, and whose time stands still until `advance`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._now = 1000.0
        self._timers: list[_Timer] = []
        self.time = lambda: self._now
        self.call_later = lambda delay, callback, *args, **_: self._add(self._now + delay, partial(callback, *args))
        self.call_at = lambda when, callback, *args, **_: self._add(when, partial(callback, *args))

    def _add(self, due: float, call: Callable[[], object]) -> _Timer:
        timer = _Timer(due, call)
        self._timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and whatever falls due in it happen in its order."""
        until = self._now + seconds
        while due := [one for one in self._timers if one.due <= until and not one.given_up]:
            first = min(due, key=lambda one: one.due)
            self._timers.remove(first)
            self._now = max(self._now, first.due)
            first.call()
        self._now = until
