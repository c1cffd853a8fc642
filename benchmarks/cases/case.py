"""What a case is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure import Sample
from benchmarks.peers.peer import Ability, Peer
from benchmarks.stage import Stage


@dataclass(frozen=True)
class Case:
    """Something to compare; `figure` names the sample's main figure, by which peers are compared."""

    name: str
    title: str
    figure: str
    chart: str  # cases with the same figure and chart are drawn together
    run: Callable[[Stage, Peer], Sample]  # one round
    needs: Ability | None = None
    alone: bool = False  # of interest for snigate only
    most_rounds: int | None = None  # of what takes long and varies little


class NotAbleError(Exception):
    """The peer cannot do this, which only showed when it was tried; says so in one sentence."""
