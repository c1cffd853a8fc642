"""What the console shows of the metrics: handshakes that failed, by reason, and how backends' servers are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from admin.worker_files import WorkerFiles


class ServerFigures(NamedTuple):
    """One server of a backend, over all workers."""

    backend: str
    server: str
    up: bool  # for every worker that has tried it


class Figures(NamedTuple):
    """Since the start."""

    failures: list[tuple[str, int]]  # reasons, the most frequent first
    outcomes: list[tuple[str, int]]
    servers: list[ServerFigures]
    active: dict[str, int]  # connections, by listener


def figures(directory: Path) -> Figures:
    """Read them from the workers' files."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerFiles(directory))
    failures: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    active: Counter[str] = Counter()
    up: dict[tuple[str, str], bool] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "snigate_handshake_failures_total":
                failures[sample.labels["reason"]] += int(sample.value)
            elif sample.name == "snigate_connections_total":
                outcomes[sample.labels["outcome"]] += int(sample.value)
            elif sample.name == "snigate_connections_active":
                active[sample.labels["listener"]] += int(sample.value)
            elif sample.name == "snigate_backend_up":
                key = sample.labels["backend"], sample.labels["server"]
                up[key] = up.get(key, True) and sample.value > 0
    return Figures(
        [one for one in failures.most_common() if one[1]],
        [one for one in outcomes.most_common() if one[1]],
        [ServerFigures(backend, server, state) for (backend, server), state in sorted(up.items())],
        dict(active),
    )
