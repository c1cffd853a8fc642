from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from certstore.spread import BATCH, WORTH_IT, spread

HERE = os.getpid()
RUNNERS = set(threading.enumerate())  # the threads of who runs the tests, which are there when this is imported
Work = Callable[[Sequence[str]], list[list[str]]]


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The operating system as certstore.spread sees it: with three processors, and nobody else's threads left."""
    for thread in set(threading.enumerate()) - RUNNERS:
        thread.join(5)
    threads = SimpleNamespace(active_count=lambda: len(set(threading.enumerate()) - RUNNERS) + 1)
    monkeypatch.setattr("certstore.spread.threading", threads)
    seen = SimpleNamespace(**(vars(os) | {"sched_getaffinity": lambda _: {0, 1, 2}}))
    monkeypatch.setattr("certstore.spread.os", seen)
    return seen


def items(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def with_process(share: Sequence[str]) -> list[list[str]]:
    """Each item with the process that worked on it."""
    return [[item, str(os.getpid())] for item in share]


def in_spread(given: Sequence[str], work: Work = with_process) -> list[list[str]]:
    """The results in the order of the items, as far as batches say so."""
    done: dict[str, list[str]] = {}
    for batch, results in spread(given, work, lambda done: json.dumps(done).encode(), json.loads):
        assert done.keys().isdisjoint(batch)
        done.update(zip(batch, results, strict=True))
    return [done[item] for item in given]


def children() -> set[str]:
    """The ids of this process's children."""
    return {pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}


def slowly(share: Sequence[str]) -> list[list[str]]:
    """As with_process, and long enough for everybody to get some."""
    time.sleep(0.05)
    return with_process(share)


@pytest.mark.parametrize("count", [3 * BATCH, 3 * BATCH + 1, 10 * BATCH - 1])
def test_results_come_with_their_items_from_several_processes(count: int) -> None:
    done = in_spread(items(count), slowly)
    assert [item for item, _ in done] == items(count)
    assert len({process for _, process in done}) == 3


def test_who_has_other_work_leaves_the_rest_to_the_others() -> None:
    by_whom = []
    begun, begins = os.pipe()

    def after_us(share: Sequence[str]) -> list[list[str]]:
        """As with_process; the others begin no sooner than this process has, which has so taken a batch."""
        if os.getpid() == HERE:
            os.write(begins, b"x")
        else:
            select.select([begun], [], [], 20)
        return with_process(share)

    for _, results in spread(items(12 * BATCH), after_us, lambda done: json.dumps(done).encode(), json.loads):
        by_whom.append(results[0][1])
        while str(HERE) in by_whom and os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            time.sleep(0.01)  # until a child has found nothing left to take
    assert by_whom.count(str(HERE)) == 1
    os.close(begun)
    os.close(begins)


def test_there_are_never_more_batches_than_their_queue_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certstore.spread.BATCH", 1)
    monkeypatch.setattr("certstore.spread.MOST_BATCHES", 7)
    given = items(WORTH_IT)
    batches = [
        len(batch) for batch, _ in spread(given, with_process, lambda done: json.dumps(done).encode(), json.loads)
    ]
    assert len(batches) <= 7
    assert sum(batches) == WORTH_IT


def test_who_loses_interest_leaves_no_process_behind() -> None:
    before = children()
    batches = spread(items(50 * BATCH), slowly, lambda done: json.dumps(done).encode(), json.loads)
    next(batches)
    assert len(children()) == len(before) + 2
    batches.close()  # type: ignore[attr-defined]  # what a for loop that is left does
    assert children() == before


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


def test_what_a_child_that_fails_had_begun_is_worked_on_here() -> None:
    def work(share: Sequence[str]) -> list[list[str]]:
        if os.getpid() != HERE:
            raise MemoryError
        return slowly(share)

    assert in_spread(items(6 * BATCH), work) == [[item, str(HERE)] for item in items(6 * BATCH)]


def test_a_system_without_room_for_a_process_is_no_failure(system: SimpleNamespace) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    system.fork = refuse
    assert in_spread(items(WORTH_IT)) == [[item, str(HERE)] for item in items(WORTH_IT)]
