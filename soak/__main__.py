"""`make soak`: run, say what was found, and store it. The status is 0 where everything is as it must be."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from soak import record, report
from soak.plan import Plan
from soak.run import soak

WIDTH = 160  # where the output is no terminal


def main() -> int:
    """See above."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    found = record.load(arguments.again) if arguments.again is not None else _soaked(arguments)
    for table in report.tables(found):
        console.print(table)
    for line in report.remarks(found):
        console.print(line, highlight=False, soft_wrap=True)
    if arguments.json is not None:
        record.save(found, arguments.json)
    if arguments.chart is not None:
        from soak import drawing

        drawing.draw(found, arguments.chart)
    return 0 if report.verdict(found, judge_timing=arguments.judge_timing) else 1


def _soaked(arguments: argparse.Namespace) -> record.Record:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that all that was started is stopped
    plan = Plan(
        seconds=arguments.seconds,
        rate=arguments.rate,
        swap_every=arguments.swap_every,
        reload_every=arguments.reload_every,
        kill_every=arguments.kill_every,
        sample_every=arguments.sample_every,
    )
    with tempfile.TemporaryDirectory(prefix="snigate-soak-") as directory:
        return soak(plan, Path(directory), lambda text: print(text, file=sys.stderr, flush=True))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    usual = msgspec.structs.asdict(Plan())
    for name, words in (
        ("seconds", "how long"),
        ("rate", "connections a second"),
        ("swap-every", "seconds between certificate swaps"),
        ("reload-every", "seconds between reloads"),
        ("kill-every", "seconds between workers killed; 0: none is"),
        ("sample-every", "seconds between two looks at the processes"),
    ):
        default = usual[name.replace("-", "_")]
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{words} ({default:g})")
    parser.add_argument("--ignore-timing", dest="judge_timing", action="store_false", help="only report latencies")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store what was seen")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw it as PNG")
    parser.add_argument("--from", dest="again", type=Path, metavar="FILE", help="show what is stored, and run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
