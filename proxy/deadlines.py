"""Deadlines that lie equally far ahead when they are set, and so fall due in the order in which they were set.

An event loop's timer costs 5 us to set and to cancel, and most are cancelled: what they wait for happens. Here one
timer serves all; to set and to clear is to put into a dictionary and to take out.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from proxy.poller import Loop


class Waiting(Protocol):
    """Who has a deadline."""

    def overdue(self) -> None:
        """The deadline has come; it is set no more."""


W = TypeVar("W", bound=Waiting)


class DeadlinesOf(Generic[W]):
    """Deadlines of one kind of things, each `seconds` after it is set."""

    __slots__ = ("_due", "_loop", "_timer", "seconds")

    def __init__(self, loop: Loop, seconds: float) -> None:
        self._loop = loop
        self._due: dict[W, float] = {}  # in the order of their times
        self._timer: asyncio.TimerHandle | None = None
        self.seconds = seconds

    def __len__(self) -> int:
        return len(self._due)

    def set(self, who: W, now: float) -> None:
        """Set who has none now a deadline. `now`: the loop's time."""
        self._due[who] = now + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self.seconds, self._look)

    def clear(self, who: W) -> None:
        """There is nothing to wait for any more, or never was."""
        self._due.pop(who, None)

    def _look(self) -> None:
        """Tell those that are overdue, and look again when the next may be."""
        self._timer = None
        now = self._loop.time()
        overdue = []
        for who, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._look)
                break
            overdue.append(who)
        for who in overdue:
            if self._due.pop(who, None) is not None:  # what came of another may have cleared it
                who.overdue()


class Deadlines(DeadlinesOf[Waiting]):
    """Deadlines of whatever waits."""

    __slots__ = ()
