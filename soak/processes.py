"""What snigate's processes use at a moment, each called by what it is."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import process_tree
from soak.record import Sample
from tests.support.snigate import Snigate

RETIRED = "retired workers"  # those of replaced generations, together


def sample(snigate: Snigate, at: float) -> Sample:
    """Look at all of them."""
    assert snigate.process is not None
    root = snigate.process.pid
    processes = snigate.api("/api/v1/status")["processes"]
    roles = {root: "supervisor", **named(processes)}
    memory = process_tree.memory(root)
    return Sample(
        at=round(at, 1),
        generation=max(one["generation"] for one in processes),
        memory=_summed(roles, memory),
        descriptors=_summed(roles, {pid: _descriptors(pid) for pid in memory}),
        active=int(snigate.metric("snigate_connections_active")),
        cpu=round(process_tree.cpu(root), 2),
        others=round(_busy() - process_tree.cpu(os.getpid()), 2),
        pace=round(_pace() * 1e3, 3),
    )


def named(processes: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """What each process is, by the pid in the status. Workers that serve are counted from 0, whatever their numbers."""
    running = [one for one in processes if one["pid"] is not None]
    serving = (one for one in running if one["role"] == "worker" and one["state"] != "draining")
    workers = {one["pid"]: f"worker {place}" for place, one in enumerate(serving)}
    others = {one["pid"]: RETIRED if one["role"] == "worker" else str(one["role"]) for one in running}
    return others | workers


def _summed(roles: Mapping[int, str], figures: Mapping[int, int]) -> dict[str, int]:
    """One that has just begun, or has just been replaced, is in nobody's list: it counts with the retired."""
    found: Counter[str] = Counter()
    for pid, figure in figures.items():
        found[roles.get(pid, RETIRED)] += figure
    return dict(found)


def _busy() -> float:
    """Seconds of CPU that this machine has spent on anything, and that its host has taken from it."""
    user, nice, system, _idle, _waiting, *more = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


def _pace() -> float:
    """How fast the machine is just now: it has other guests, and its cores share what is below them."""
    began = time.thread_time()
    sum(number * number for number in range(30_000))
    return time.thread_time() - began


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0
