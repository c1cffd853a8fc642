"""What a server's processes use, all of them: the one that was started and everything below it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def pids(root: int) -> Iterator[int]:
    """The process and its descendants."""
    yield root
    for task in _tasks(root):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield from pids(int(child))


def cpu(root: int) -> float:
    """Seconds of CPU, user and system, used so far, those of ended and reaped children included."""
    return sum(_cpu(Path(f"/proc/{pid}"), reaped=True) for pid in pids(root))


def cpu_by_thread(root: int) -> dict[int, float]:
    """Seconds of CPU of each thread that lives."""
    return {int(task.name): _cpu(task) for pid in pids(root) for task in _tasks(pid)}


def memory(root: int) -> dict[int, int]:
    """Bytes of memory (PSS: what is shared is divided among those that share it) by process."""
    return {pid: size for pid in pids(root) if (size := _pss(pid)) is not None}


class PeakMemory:
    """The most memory that the tree was seen to use during a block, looked at a few times a second."""

    def __init__(self, root: int, every: float = 0.25) -> None:
        self.bytes = 0
        self._root = root
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, sum(memory(self._root).values()))


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _cpu(entry: Path, *, reaped: bool = False) -> float:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11 : 15 if reaped else 13]) * _TICK


def _pss(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
