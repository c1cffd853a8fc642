"""Visits, samples and windows out of thin air."""

from __future__ import annotations

from soak.processes import RETIRED
from soak.record import Sample, Visit, Window

MEGABYTE = 1 << 20


def visit(**changes: object) -> Visit:
    """A request that was served, from second 10 to second 11."""
    usual: dict[str, object] = {"kind": "request", "listener": "web", "outcome": "served", "began": 10.0, "ended": 11.0}
    return Visit(**(usual | changes))  # type: ignore[arg-type]


def sample(at: float, workers: float = 20.0, *, generation: int = 1, retired: float = 0.0) -> Sample:
    """One with a keeper of 10 MB, and two workers of so many each."""
    sizes = {"keeper": 10.0, "worker 0": workers, "worker 1": workers} | ({RETIRED: retired} if retired else {})
    memory = {name: round(size * MEGABYTE) for name, size in sizes.items()}
    return Sample(at, generation, memory, dict.fromkeys(memory, 30), active=0, cpu=at / 10, others=at / 10, pace=2.0)


def window(at: float, p99: float | None, *, others: float = 0.1) -> Window:
    """Ten seconds with this p99, in which so many CPUs were busy with other things."""
    return Window(at, served=100, deliberate=10, failed=0, others=others, handshakes=80, p50=0.001, p99=p99)
