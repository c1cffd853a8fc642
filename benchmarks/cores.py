"""Which core does what: servers on one, load and backend on the other."""

from __future__ import annotations

import os

SERVER_CORE = 0
LOAD_CORE = 1


def pinned(cores: set[int], command: list[str]) -> list[str]:
    """The command, kept to these cores."""
    return ["taskset", "-c", ",".join(str(core) for core in sorted(cores)), *command]


def pin_load() -> None:
    """Keep this process, which makes the load and measures, to the load's core."""
    os.sched_setaffinity(0, {LOAD_CORE})
