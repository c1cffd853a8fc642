"""The figures that are measured: name in JSON, words for people, unit, and decimals that mean something."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """One kind of figure."""

    words: str
    unit: str
    more_is_better: bool = False


FIGURES = {
    "cpu_us": Figure("server CPU", "us"),
    "cpu_s_per_gb": Figure("server CPU", "s/GB"),
    "kb_per_connection": Figure("memory per connection", "kB"),
    "ready_s": Figure("time to ready", "s"),
    "speedup": Figure("capacity, two workers by one", "x", more_is_better=True),
    "p99_during_ms": Figure("p99 during the swap", "ms"),
    "p99_before_ms": Figure("p99 before", "ms"),
    "worst_ms": Figure("slowest during", "ms"),
    "served_s": Figure("time until it is served", "s"),
    "failed": Figure("failed connections", ""),
    "resumed_percent": Figure("resumed", "%", more_is_better=True),
    "busier_percent": Figure("busier worker's share", "%"),
    "mb_per_s": Figure("throughput", "MB/s", more_is_better=True),
    "rate": Figure("rate", "/s", more_is_better=True),
    "p50_ms": Figure("p50", "ms"),
    "p99_ms": Figure("p99", "ms"),
    "busy_percent": Figure("core used", "%"),
    "cpu_s": Figure("server CPU", "s"),
    "settled_s": Figure("time until it rests", "s"),
    "memory_mb": Figure("memory", "MB"),
    "peak_mb": Figure("peak memory", "MB"),
    "largest_mb": Figure("memory of the largest process", "MB"),
}


def shown(name: str, value: float) -> str:
    """A value with its unit, to three digits."""
    return f"{digits(value)} {FIGURES[name].unit}".rstrip()


def digits(value: float) -> str:
    """Three digits of it, more where it is a thousand or more."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
