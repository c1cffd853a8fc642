"""The results as pictures: a PNG for each kind of figure, bars of medians with their spread, shorter is better."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import FIGURES
from benchmarks.results import CaseResult, Results, Summary, summary

COLOURS = {
    "snigate": "#c2410c",
    "nginx": "#15803d",
    "haproxy": "#1d4ed8",
    "hitch": "#7e22ce",
    "stunnel": "#6b7280",
    "caddy": "#0e7490",
}


class Chart(NamedTuple):
    """What one picture shows: for each case a bar for each peer that has a figure."""

    name: str  # of the file, without its ending
    title: str
    bars: dict[str, dict[str, Summary]]  # by case's title and peer


def charts(results: Results) -> list[Chart]:
    """Cases of the same chart and figure, together; those that nobody has a figure for are left out."""
    grouped: dict[tuple[str, str], list[CaseResult]] = {}
    for case in results.cases:
        grouped.setdefault((case.chart, case.figure), []).append(case)
    made = []
    for (chart, figure), cases in grouped.items():
        bars = {case.title: bars for case in cases if (bars := _bars(case))}
        if bars:
            what = FIGURES[figure]
            better = "longer" if what.more_is_better else "shorter"
            title = f"{what.words}{f', {what.unit}' if what.unit else ''} ({better} is better)"
            made.append(Chart(f"{chart}-{figure.replace('_', '-')}", title, bars))
    return made


def _bars(case: CaseResult) -> dict[str, Summary]:
    found = {peer: summary(result, case.figure) for peer, result in case.peers.items()}
    return {peer: one for peer, one in found.items() if one is not None}


def foot(results: Results) -> str:
    """What stands below every picture: when, what, and on what."""
    versions = ", ".join(f"{peer} {version}" for peer, version in results.versions.items())
    machine = results.machine
    first = f"{results.date[:10]}, commit {results.commit}, median and spread of {results.rounds} rounds; {versions}"
    return f"{first}\n{machine.processor}, {machine.cores} cores, Linux {machine.kernel}, {machine.openssl}"


def draw(results: Results, directory: Path) -> list[Path]:
    """Write the pictures; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    return [_draw(chart, foot(results), directory / f"{chart.name}.png") for chart in charts(results)]


def _draw(chart: Chart, below: str, path: Path) -> Path:
    from matplotlib.figure import Figure  # only who draws needs it

    rows = [(case, peer, one) for case, peers in chart.bars.items() for peer, one in peers.items()]
    height = 0.24 * len(rows) + 0.45 * len(chart.bars) + 1.3
    figure = Figure(figsize=(9.5, height), layout="constrained")
    axes = figure.add_subplot()
    position, ticks, labels = 0.0, [], []
    for case, peers in chart.bars.items():
        axes.text(0, position, case, fontweight="bold", fontsize=9, va="center")
        position += 1
        for peer, one in peers.items():
            spread = [[one.median - one.least], [one.most - one.median]]
            axes.barh(position, one.median, 0.8, xerr=spread, color=COLOURS.get(peer, "#444444"), ecolor="#222222")
            axes.annotate(f" {one.median:.3g}", (one.most, position), fontsize=8, va="center")
            ticks.append(position)
            labels.append(peer)
            position += 1
        position += 0.4
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(chart.title, loc="left")
    figure.supxlabel(below, fontsize=7, x=0.02, ha="left")
    figure.savefig(path, dpi=110)
    return path
