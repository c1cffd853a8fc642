"""What workers have written of their metrics, read while they come and go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector


class WorkerFiles(Collector):
    """Collects from the files in a directory. One that a worker has just made is empty for a moment."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader = MultiProcessCollector(CollectorRegistry(), path=str(directory))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """Every family, over all workers."""
        files = [str(one) for one in self._directory.glob("*.db") if _has_begun(one)]
        merged: Iterable[Metric] = self._reader.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return merged


def _has_begun(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False
