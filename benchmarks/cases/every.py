"""All of them, in the order in which they run."""

from __future__ import annotations

from benchmarks.cases import handshakes, idle, transfers

CASES = {case.name: case for module in (handshakes, transfers, idle) for case in module.CASES}
