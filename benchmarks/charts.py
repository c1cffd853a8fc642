"""What the pictures show: a chart for each kind of case with a panel a case, and the ratios of all in one."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.figures import FIGURES, Figure
from benchmarks.results import CaseResult, Results, Summary, ratio, summary

TITLES = {
    "handshakes": "Handshakes: a connection, one short request and its answer, close",
    "transfers": "Bulk, and requests on connections that are open",
    "memory": "Memory of an idle connection",
    "certificates": "Many certificates",
    "workers": "Two workers on two cores",
}


class Bar(NamedTuple):
    """A peer in a panel; without a value, `note` says why."""

    peer: str
    value: Summary | None
    note: str


class Panel(NamedTuple):
    """A case: its bars from the best to the worst, then who has none."""

    title: str
    figure: str
    bars: list[Bar]

    @property
    def axis(self) -> str:
        """What the bars' length means."""
        return axis(FIGURES[self.figure])


class Chart(NamedTuple):
    """What one picture shows."""

    name: str  # of the file, without its ending
    title: str
    panels: list[Panel]


class Comparison(NamedTuple):
    """A case in the overview: snigate's figure divided by each peer's."""

    title: str
    figure: str
    ratios: dict[str, float]


def axis(figure: Figure) -> str:
    """What is measured, in which unit, and which way is better."""
    unit = f", {figure.unit}" if figure.unit else ""
    return f"{figure.words}{unit} ({'more' if figure.more_is_better else 'less'} is better)"


def charts(results: Results) -> list[Chart]:
    """Cases of the same chart, together; those that nobody has a figure for are left out."""
    grouped: dict[str, list[Panel]] = {}
    for case in results.cases:
        panel = Panel(case.title, case.figure, _bars(case))
        if any(bar.value for bar in panel.bars):
            grouped.setdefault(case.chart, []).append(panel)
    return [Chart(name, TITLES.get(name, name), panels) for name, panels in grouped.items()]


def _bars(case: CaseResult) -> list[Bar]:
    sign = -1 if FIGURES[case.figure].more_is_better else 1
    bars = [Bar(peer, summary(one, case.figure), one.note or "") for peer, one in case.peers.items()]
    return sorted(bars, key=lambda bar: sign * bar.value.median if bar.value else float("inf"))


def overview(results: Results) -> list[Comparison]:
    """Every case that has less for better, and somebody to compare with."""
    made = []
    for case in results.cases:
        ratios = {peer: one for peer in case.peers if peer != "snigate" and (one := ratio(case, peer)) is not None}
        if ratios and not FIGURES[case.figure].more_is_better:
            made.append(Comparison(case.title, case.figure, ratios))
    return made


def foot(results: Results) -> str:
    """What stands below every picture: when, what, and on what."""
    versions = ", ".join(f"{peer} {version}" for peer, version in results.versions.items())
    machine = results.machine
    rounds = "1 round" if results.rounds == 1 else f"{results.rounds} rounds"
    first = f"{results.date[:10]}, commit {results.commit}: {versions}"
    second = f"{machine.processor}, {machine.cores} cores, Linux {machine.kernel}, {machine.openssl}"
    return f"{first}\nmedian of {rounds}, thin lines from least to most; {second}"
