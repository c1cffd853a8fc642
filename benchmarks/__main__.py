"""`make bench`: the cases, each server in turn, rounds interleaved; a table of medians and ratios."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import load, servers
from tests.support.pki import self_signed
from tests.support.ports import free_port

HANDSHAKES = 1500
MEGABYTES = 400

CASES: dict[str, tuple[str, float, Callable[[int], None]]] = {
    "full handshake, ECDSA P-256, TLS 1.3": ("us", 1e6 / HANDSHAKES, lambda port: load.handshakes(port, HANDSHAKES)),
    "download": ("s/GB", 1024 / MEGABYTES, lambda port: load.download(port, MEGABYTES)),
}


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, {load.LOAD_CORE})
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="snigate-bench-")))
        running = _start(stack, directory)
        found: dict[str, dict[str, list[float]]] = {case: {one.name: [] for one in running} for case in CASES}
        for _ in range(rounds):
            for case, (_, scale, run) in CASES.items():
                for one in running:
                    before = one.cpu()
                    run(one.port)
                    servers.settle()
                    found[case][one.name].append((one.cpu() - before) * scale)
    Console().print(_table(found))


def _start(stack: ExitStack, directory: Path) -> list[servers.Running]:
    backend = stack.enter_context(load.backend())
    certificate = directory / "b.pem"
    certificate.write_bytes(self_signed("b.test").combined_pem)
    started = []
    for name in ("snigate", "nginx"):
        home = directory / name
        home.mkdir()
        port = free_port()
        if name == "snigate":
            command = servers.snigate(home, port, free_port(), backend, certificate)
        else:
            command = servers.nginx(home, port, backend, certificate)
        started.append(stack.enter_context(servers.started(name, command, port)))
    return started


def _table(found: dict[str, dict[str, list[float]]]) -> Table:
    table = Table("case", "server", "server CPU, median", "spread", "snigate divided by it")
    for case, by_server in found.items():
        unit = CASES[case][0]
        own = statistics.median(by_server["snigate"])
        for name, values in by_server.items():
            median = statistics.median(values)
            table.add_row(
                case,
                name,
                f"{median:.4g} {unit}",
                f"{min(values):.4g} to {max(values):.4g}",
                "" if name == "snigate" else f"{own / median:.2f}",
            )
    return table


if __name__ == "__main__":
    main()
