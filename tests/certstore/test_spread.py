from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from certstore.spread import WORTH_IT, spread

HERE = os.getpid()


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The operating system as certstore.spread sees it: with three processors, and nobody else's threads left."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(5)
    seen = SimpleNamespace(**(vars(os) | {"sched_getaffinity": lambda _: {0, 1, 2}}))
    monkeypatch.setattr("certstore.spread.os", seen)
    return seen


def items(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def with_process(share: Sequence[str]) -> list[list[str]]:
    """Each item with the process that worked on it."""
    return [[item, str(os.getpid())] for item in share]


def in_spread(given: Sequence[str], work: object = with_process) -> list[list[str]]:
    return spread(given, work, lambda done: json.dumps(done).encode(), json.loads)  # type: ignore[arg-type]  # a test's


@pytest.mark.parametrize("count", [WORTH_IT, WORTH_IT + 1, WORTH_IT + 2])
def test_results_come_in_the_order_of_the_items_from_several_processes(count: int) -> None:
    done = in_spread(items(count))
    assert [item for item, _ in done] == items(count)
    assert len({process for _, process in done}) == 3


@pytest.mark.parametrize("count", [0, 1, WORTH_IT - 1])
def test_little_work_is_done_here(count: int) -> None:
    assert in_spread(items(count)) == [[item, str(HERE)] for item in items(count)]


def test_beside_another_thread_nothing_is_forked() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert {process for _, process in in_spread(items(WORTH_IT))} == {str(HERE)}
    finally:
        stop.set()
        thread.join()


def test_the_share_of_a_child_that_fails_is_worked_on_here() -> None:
    def work(share: Sequence[str]) -> list[list[str]]:
        if os.getpid() != HERE and "1" in share:
            raise MemoryError
        return with_process(share)

    done = in_spread(items(WORTH_IT), work)
    assert [item for item, _ in done] == items(WORTH_IT)
    assert len({process for _, process in done}) == 2


def test_a_system_without_room_for_a_process_is_no_failure(system: SimpleNamespace) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    system.fork = refuse
    assert in_spread(items(WORTH_IT)) == [[item, str(HERE)] for item in items(WORTH_IT)]
