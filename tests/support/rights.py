"""What a process may do, as the kernel tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Rights(NamedTuple):
    """Of one process; capabilities by their numbers."""

    user: int
    effective: frozenset[int]
    bounds: frozenset[int]  # what programs that it executes may have at most
    ambient: frozenset[int]  # what they have
    no_new: bool

    @classmethod
    def of(cls, status: str) -> Rights:
        """From the text of /proc/PID/status."""
        found = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.MULTILINE))
        effective, bounds, ambient = (_numbers(found[name]) for name in ("CapEff", "CapBnd", "CapAmb"))
        return cls(int(found["Uid"]), effective, bounds, ambient, found["NoNewPrivs"] == "1")


def rights(pid: int | str = "self") -> Rights:
    """Of a process that runs."""
    return Rights.of(Path(f"/proc/{pid}/status").read_text())


def _numbers(digits: str) -> frozenset[int]:
    return frozenset(number for number in range(64) if int(digits, 16) >> number & 1)
