"""`make bench`: what to compare, where the results go."""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from benchmarks import cores, drawing, report, results
from benchmarks.cases.every import CASES
from benchmarks.effort import Effort
from benchmarks.peers.every import PEERS, YARDSTICKS
from benchmarks.run import run
from benchmarks.stage import Stage

WIDTH = 160  # where the output is no terminal
_Named = TypeVar("_Named")


def main() -> None:
    """Run, print, and store."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if arguments.list:
        for case in CASES.values():
            console.print(f"{case.name:22} {case.title}", highlight=False)
        console.print(f"peers: {' '.join(PEERS)}, and when asked for {' '.join(YARDSTICKS)}", highlight=False)
        return
    found = _measured(arguments) if arguments.again is None else results.load(arguments.again)
    for table in report.tables(found):
        console.print(table)
    for line in report.remarks(found):
        console.print(line, highlight=False, soft_wrap=True)
    if arguments.charts is not None:
        for path in drawing.draw(found, arguments.charts):
            console.print(f"{path}", highlight=False)


def _measured(arguments: argparse.Namespace) -> results.Results:
    cases, peers = _chosen(CASES, arguments.cases), _chosen(PEERS | YARDSTICKS, arguments.peers or list(PEERS))
    cores.pin_load()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that the servers are stopped
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="snigate-bench-") as directory, Stage(Path(directory), Effort()) as stage:
        return run(stage, cases, peers, arguments.rounds, _say, lambda found: _keep(found, arguments.json))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _keep(found: results.Results, path: Path | None) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        results.save(found, path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--cases", nargs="*", metavar="CASE", help="names from --list; absent: all")
    parser.add_argument("--peers", nargs="*", metavar="PEER", help="names from --list; absent: those that users run")
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer takes its turn (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the results")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw the results as PNG files")
    parser.add_argument("--from", dest="again", type=Path, metavar="FILE", help="show stored results, measure nothing")
    parser.add_argument("--list", action="store_true", help="list cases and peers")
    return parser.parse_args()


def _chosen(every: Mapping[str, _Named], names: list[str] | None) -> list[_Named]:
    unknown = [name for name in names or () if name not in every]
    if unknown:
        sys.exit(f"there is no {unknown[0]!r}; there are: {' '.join(every)}")
    return [one for name, one in every.items() if not names or name in names]


if __name__ == "__main__":
    main()
