from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from proxy.deadlines import Deadlines
from tests.support.loop import in_loop


class Waiting:
    """Notes when it was overdue."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.told: list[float] = []

    def overdue(self) -> None:
        self.told.append(self._loop.time())


@in_loop
async def test_who_is_not_cleared_is_told_once_and_who_is_cleared_never() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, 0.05)
    kept, cleared = Waiting(loop), Waiting(loop)
    began = loop.time()
    deadlines.set(kept, began)
    deadlines.set(cleared, began)
    deadlines.clear(cleared)
    deadlines.clear(cleared)
    while not kept.told:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(kept.told) == 1
    assert kept.told[0] >= began + 0.05
    assert cleared.told == []
    assert len(deadlines) == 0


@in_loop
async def test_who_is_set_later_is_told_later_though_the_first_was_cleared() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, 0.05)
    first, second = Waiting(loop), Waiting(loop)
    deadlines.set(first, loop.time())
    await asyncio.sleep(0.03)
    deadlines.clear(first)
    began = loop.time()
    deadlines.set(second, began)
    while not second.told:
        await asyncio.sleep(0.01)
    assert second.told[0] >= began + 0.05
    assert first.told == []


class Clearing(Waiting):
    """Clears another's deadline when its own has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deadlines: Deadlines, other: Waiting) -> None:
        super().__init__(loop)
        self._deadlines = deadlines
        self._other = other

    def overdue(self) -> None:
        super().overdue()
        self._deadlines.clear(self._other)


@in_loop
async def test_whose_deadline_is_cleared_by_another_in_the_same_moment_is_not_told() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop, 0.02)
    other = Waiting(loop)
    clearing = Clearing(loop, deadlines, other)
    now = loop.time()
    deadlines.set(clearing, now)
    deadlines.set(other, now)
    while not clearing.told:
        await asyncio.sleep(0.01)
    assert other.told == []


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=40))
def test_each_is_told_when_its_time_has_come_and_not_before(steps: list[tuple[float, bool]]) -> None:
    """Each step passes some time, and then sets one more, or clears the one that was set first of those left."""
    loop = Timed()
    deadlines = Deadlines(loop, 1.0)  # type: ignore[arg-type]
    waiting: dict[Waiting, float] = {}
    ended: dict[Waiting, float | None] = {}
    for passed, sets in steps:
        loop.advance(passed)
        for one in [one for one, due in waiting.items() if due <= loop.now]:
            ended[one] = waiting.pop(one)
        if sets or not waiting:
            one = Waiting(loop)  # type: ignore[arg-type]
            waiting[one] = loop.now + 1.0
            deadlines.set(one, loop.now)
        else:
            one = next(iter(waiting))
            del waiting[one]
            deadlines.clear(one)
            ended[one] = None
    loop.advance(2.0)
    ended.update(waiting)
    for one, due in ended.items():
        assert one.told == ([] if due is None else [due])
    assert len(deadlines) == 0
    assert len(loop.timers) == 0


class Handle:
    """A timer of Timed's."""

    def __init__(self, when: float, callback: object) -> None:
        self.when = when
        self.callback = callback


class Timed:
    """As much of an event loop as deadlines use; its time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object) -> Handle:
        self.timers.append(Handle(when, callback))
        return self.timers[-1]

    def call_later(self, delay: float, callback: object) -> Handle:
        return self.call_at(self.now + delay, callback)

    def advance(self, seconds: float) -> None:
        """Let time pass, and each timer run at its own time."""
        until = self.now + seconds
        while due := [one for one in self.timers if one.when <= until]:
            first = min(due, key=lambda one: one.when)
            self.timers.remove(first)
            self.now = first.when
            assert callable(first.callback)
            first.callback()
        self.now = until
