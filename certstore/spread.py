"""Work on many items spread over several processes: how 100,000 files are read at start with no processor idle.

The interpreter's lock lets one thread at a time parse, so threads would not help. Children are forked: they have
everything imported, need nothing sent to them, and answer through memory files, which cannot fill up as pipes do. Who
is free takes the next batch: this process, which has work of its own with what is done, takes fewer than the others.
Forking is safe only in a process without other threads, which could hold a lock at that moment that nobody in the child
would ever release; where there are some, the work is simply done here. So the keeper makes its first scan, the one that
has everything to read, before it starts its watch or any other thread.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

WORTH_IT = 1000  # items; below, a fork and its answer cost more than they save
MOST = 4  # processes
BATCH = 500  # items that are worked on in one go, or more...
MOST_BATCHES = 1000  # ...so that there are no more batches than their numbers fit the smallest pipe

_number = struct.Struct("=H")
_notice = struct.Struct("=HQQ")  # of a batch done: its number, and where in the file its answer begins and ends


def spread(
    items: Sequence[str],
    work: Callable[[Sequence[str]], list[T]],
    encode: Callable[[list[T]], bytes],
    decode: Callable[[bytes], list[T]],
) -> Iterator[tuple[Sequence[str], list[T]]]:
    """`work` done on all items by several processes, where that is worth it: batches of items with their results.

    Batches come as they are done. `encode` and `decode` carry a child's results over; what a child that fails has begun
    is worked on here.
    """
    processes = min(MOST, len(os.sched_getaffinity(0)))
    if len(items) < WORTH_IT or processes == 1 or threading.active_count() > 1:
        yield items, work(items)
        return
    size = max(BATCH, -(-len(items) // MOST_BATCHES))
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    queue = _Queue(len(batches))
    children = _Children()
    try:
        for _ in range(processes - 1):
            children.fork(queue, lambda number: encode(work(batches[number])))
        left = set(range(len(batches)))
        while left:
            own = queue.next()
            for number, answer in children.answers(wait=own is None):
                left.discard(number)
                yield batches[number], decode(answer)
            if own is None and not children and left:
                own = min(left)
            if own is not None:
                left.discard(own)
                yield batches[own], work(batches[own])
    finally:
        children.end()
        queue.close()


class _Queue:
    """Numbers of batches that nobody has begun, in a pipe, from which each process takes the next."""

    def __init__(self, count: int) -> None:
        self._file, end = os.pipe2(os.O_CLOEXEC)
        os.write(end, b"".join(map(_number.pack, range(count))))
        os.close(end)

    def next(self) -> int | None:
        """The next one; None when there is none left."""
        taken = os.read(self._file, _number.size)
        return int(_number.unpack(taken)[0]) if taken else None

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._file)


class _Children:
    """Forked processes at work: for each the pipe that tells of batches done, its process id, and its answers' file."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def fork(self, queue: _Queue, work: Callable[[int], bytes]) -> None:
        """Start one, if the system has room for it."""
        opened: list[int] = []
        try:
            opened.append(file := os.memfd_create("snigate-share", os.MFD_CLOEXEC))
            told, tells = os.pipe2(os.O_CLOEXEC)
            opened += told, tells
            pid = os.fork()
        except OSError:
            for one in opened:
                os.close(one)
            return
        if pid:
            os.close(tells)
            self._running[told] = pid, file
            return
        try:
            _work(queue, work, file, tells)
        finally:
            os._exit(0)

    def answers(self, *, wait: bool) -> Iterator[tuple[int, bytes]]:
        """Batches that were done meanwhile, with their answers; with `wait` at least one, or the end of a child."""
        poll = select.poll()
        for told in self._running:
            poll.register(told, select.POLLIN)
        for told, _ in poll.poll(None if wait else 0) if self._running else ():
            _, file = self._running[told]
            notice = os.read(told, _notice.size)
            if not notice:
                self._let_go(told)
                continue
            number, start, end = _notice.unpack(notice)
            yield number, os.pread(file, end - start, start)

    def end(self) -> None:
        """End those that are still there."""
        for told, (pid, _) in tuple(self._running.items()):
            os.kill(pid, signal.SIGKILL)
            self._let_go(told)

    def _let_go(self, told: int) -> None:
        pid, file = self._running.pop(told)
        os.waitpid(pid, 0)
        os.close(told)
        os.close(file)


def _work(queue: _Queue, work: Callable[[int], bytes], file: int, tells: int) -> None:
    """In a child: take what nobody has begun, until there is nothing left."""
    start = 0
    while (number := queue.next()) is not None:
        answer = memoryview(work(number))
        end = start + len(answer)
        while answer:
            answer = answer[os.write(file, answer) :]
        os.write(tells, _notice.pack(number, start, end))
        start = end
