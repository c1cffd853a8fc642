"""A generation: the processes that serve one configuration with one set of front contexts.

A `Plan` says what a generation is made of; who makes plans, from a configuration and the plan in use, is none of this
package's business. Keeper and control go over from one generation to the next where their specs are the same objects.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.child import Child, ChildSpec

Identity = tuple[int, int, int, int] | None  # device, inode, size and time of change; None where there is no file


RENEWAL = 12 * 3600.0  # seconds


class PlanError(Exception):
    """No plan can be made; `problems` says why, each a sentence that says what to do."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, eq=False)
class Plan:
    """What a generation is made of. `drain`, `predrain`, `retire` and `renewal` are seconds."""

    keeper: ChildSpec
    control: ChildSpec
    workers: tuple[ChildSpec, ...]
    sockets: tuple[socket.socket, ...]  # everything the supervisor holds for this generation
    listening: tuple[socket.socket, ...]  # those of them that begin to listen when the workers can accept
    drain: float
    retire: float
    predrain: float = 0.0
    renewal: float = RENEWAL  # how long the plan's front contexts, and so its ticket keys, are used
    watched: Mapping[Path, Identity] = field(default_factory=dict)  # files, as they were before they were read
    on_serving: Callable[[], None] = lambda: None  # called once the generation serves


Replan = Callable[[Plan, bool], Plan]
"""Makes the next plan from the one in use; True: from the configuration as it is now in its files. Raises PlanError."""


class Generation:
    """A plan and its processes. Those of `before` that the plan keeps are taken over."""

    def __init__(self, number: int, plan: Plan, before: Generation | None = None) -> None:
        self.number = number
        self.plan = plan
        self.keeper: Child = Child(plan.keeper, number)
        self.control: Child = Child(plan.control, number)
        if before is not None and before.plan.keeper is plan.keeper:
            self.keeper = before.keeper
        if before is not None and before.plan.control is plan.control:
            self.control = before.control
        self.workers = [Child(spec, number) for spec in plan.workers]

    def __iter__(self) -> Iterator[Child]:
        yield self.keeper
        yield self.control
        yield from self.workers


def identity(path: Path) -> Identity:
    """What tells whether a file, or the file that a link leads to, is still the same."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
