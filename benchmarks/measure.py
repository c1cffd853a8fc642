"""What a server used while something was done to it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import process_tree
from benchmarks.server import Running

SETTLE = 0.3  # seconds in which what follows a load (closing, logging) ends, so that it is counted
Sample = dict[str, float]  # figures by name, see figures.py


@dataclass
class Meter:
    """Filled in when the block has ended."""

    cpu: float = 0.0  # seconds
    busiest: float = 0.0  # seconds of CPU that the busiest thread used
    peak: int = 0  # bytes


@contextmanager
def metered(running: Running) -> Iterator[Meter]:
    """CPU and peak memory of all the server's processes during the block."""
    meter = Meter()
    before, threads = running.cpu(), process_tree.cpu_by_thread(running.pid)
    with process_tree.PeakMemory(running.pid) as peak:
        yield meter
        time.sleep(SETTLE)
    meter.cpu = running.cpu() - before
    after = process_tree.cpu_by_thread(running.pid)
    meter.busiest = max(used - threads.get(thread, 0.0) for thread, used in after.items())
    meter.peak = peak.bytes


def percentile(values: Sequence[float], hundredths: int) -> float:
    """The value that this many hundredths of them do not exceed."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[hundredths - 1]


def latencies(seconds: Sequence[float]) -> Sample:
    """Their median and 99th percentile."""
    return {"p50_ms": percentile(seconds, 50) * 1e3, "p99_ms": percentile(seconds, 99) * 1e3}
