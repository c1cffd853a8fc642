"""How many CPUs this process may use: its affinity, and the quota of its control group (version 2)."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cpus(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """At least 1. A quota of 1.5 CPUs counts as 2."""
    count = len(os.sched_getaffinity(0))
    try:
        path = own.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return count
    for group in (groups / path, *(groups / path).parents):
        try:
            quota, period = (group / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            count = min(count, max(1, math.ceil(int(quota) / int(period))))
        if group == groups:
            break
    return count
