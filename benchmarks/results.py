"""What a run found, as it is stored in JSON, and what is worked out from it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import NamedTuple

import msgspec


class PeerResult(msgspec.Struct, kw_only=True):
    """A peer's samples of a case, one a round; `note` says why they are missing or fewer."""

    samples: list[dict[str, float]] = msgspec.field(default_factory=list)
    note: str | None = None


class CaseResult(msgspec.Struct, kw_only=True):
    """A case by peer, in the order in which they took turns."""

    name: str
    title: str
    figure: str
    chart: str  # cases of one chart are drawn together
    peers: dict[str, PeerResult] = msgspec.field(default_factory=dict)


class Machine(msgspec.Struct, kw_only=True):
    """Where it ran."""

    processor: str
    cores: int
    kernel: str
    python: str
    openssl: str  # snigate's and the client's


class Results(msgspec.Struct, kw_only=True):
    """A whole run."""

    date: str  # ISO 8601
    commit: str
    machine: Machine
    rounds: int
    versions: dict[str, str]
    negotiated: dict[str, str]
    absent: dict[str, str]  # peers that were left out, and why
    cases: list[CaseResult]


class Summary(NamedTuple):
    """A figure over the rounds."""

    median: float
    least: float
    most: float


def summary(result: PeerResult, figure: str) -> Summary | None:
    """Median and spread of a figure; None where no sample has it."""
    values = [sample[figure] for sample in result.samples if figure in sample]
    return Summary(statistics.median(values), min(values), max(values)) if values else None


def ratio(case: CaseResult, peer: str, own: str = "snigate") -> float | None:
    """snigate's median of the case's figure divided by the peer's."""
    ours = summary(case.peers[own], case.figure) if own in case.peers else None
    theirs = summary(case.peers[peer], case.figure)
    return ours.median / theirs.median if ours and theirs and theirs.median else None


def save(results: Results, path: Path) -> None:
    """Write them as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def load(path: Path) -> Results:
    """Read them back."""
    return msgspec.json.decode(path.read_bytes(), type=Results)
