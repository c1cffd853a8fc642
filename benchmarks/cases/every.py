"""All of them, in the order in which they run."""

from __future__ import annotations

from benchmarks.cases import handshakes, idle, starts, swap, transfers

CASES = {case.name: case for module in (handshakes, transfers, idle, starts, swap) for case in module.CASES}
