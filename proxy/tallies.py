"""What a worker counts, kept in its memory and written to prometheus-client's file now and then.

prometheus-client takes 2 to 6 us for each count, and a connection is counted a dozen times; here that takes less than
two in all. A worker that is killed loses what it has not written: a fifth of a second's at most.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

EVERY = 0.2  # seconds between writings while there is much to count


class Pacer:
    """Has what was counted written: at once after a quiet time, and together with what comes soon after otherwise."""

    __slots__ = ("_next", "_planned", "_write")

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._next = 0.0  # monotonic
        self._planned = False

    def touch(self) -> None:
        """Something was counted. Call it in an event loop."""
        if not self._planned:
            wait = self._next - time.monotonic()
            if wait <= 0:
                self._do_write()
            else:
                self._planned = True
                asyncio.get_running_loop().call_later(wait, self._do_write)

    def _do_write(self) -> None:
        self._planned = False
        self._next = time.monotonic() + EVERY
        self._write()


class Count:
    """A counter."""

    __slots__ = ("_unwritten", "metric")

    def __init__(self, counter: Counter) -> None:
        self.metric = counter
        self._unwritten = 0

    def inc(self, amount: int = 1) -> None:
        """Count so many more."""
        self._unwritten += amount

    def write(self) -> None:
        """Hand over what was counted since the last time."""
        if self._unwritten:
            amount, self._unwritten = self._unwritten, 0
            self.metric.inc(amount)


class Number:
    """A gauge of how many there are."""

    __slots__ = ("_written", "metric", "now")

    def __init__(self, gauge: Gauge) -> None:
        self.metric = gauge
        self.now = self._written = 0  # how many there are is the caller's to change
        gauge.set(0)

    def write(self) -> None:
        """Hand over how many there are."""
        if self.now != self._written:
            self._written = self.now
            self.metric.set(self.now)


class Durations:
    """A histogram of seconds."""

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds: list[float] = list(histogram._upper_bounds)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def write(self) -> None:
        """Hand over what was counted since the last time, as `Histogram.observe` would have done one by one."""
        if not any(self._counts):
            return
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(self._sum)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
