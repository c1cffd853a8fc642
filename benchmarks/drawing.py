"""The charts as PNG files, by matplotlib, which only who draws needs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.charts import Bar, Chart, Comparison, Panel, charts, foot, overview
from benchmarks.figures import FIGURES
from benchmarks.results import Results

OWN, OTHER, INK, FAINT = "#d9480f", "#9fb3c8", "#1f2933", "#7b8794"
PEERS = {  # colour and mark in the overview
    "nginx": ("#2f9e44", "o"),
    "haproxy": ("#1971c2", "s"),
    "hitch": ("#9c36b5", "D"),
    "stunnel": ("#868e96", "v"),
    "caddy": ("#0c8599", "^"),
}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
DPI = 110
WIDTH = 10.0  # inches
ROW = 0.25  # height of a bar with what is between it and the next


def draw(results: Results, directory: Path) -> list[Path]:
    """Write the pictures; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    below = foot(results)
    written = [_draw(chart, below, directory / f"{chart.name}.png") for chart in charts(results)]
    compared = overview(results)
    return [_draw_overview(compared, below, directory / "overview.png"), *written] if compared else written


def _draw(chart: Chart, below: str, path: Path) -> Path:
    columns = min(2, len(chart.panels))
    rows = [chart.panels[start : start + columns] for start in range(0, len(chart.panels), columns)]
    heights = [max(len(panel.bars) for panel in row) * ROW + 0.85 for row in rows]
    figure = sheet(sum(heights) + 1.0, chart.title, below)
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for number, row in enumerate(rows):
        for column, panel in enumerate(row):
            _draw_panel(figure.add_subplot(grid[number, column]), panel, max(len(one.bars) for one in row))
    return save(figure, path)


def _draw_panel(axes: Any, panel: Panel, slots: int) -> None:
    longest = max(bar.value.most for bar in panel.bars if bar.value)
    for position, bar in enumerate(panel.bars):
        _draw_bar(axes, position, bar, longest)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel(panel.axis, fontsize=8, color=FAINT, loc="left")
    axes.set_yticks(range(len(panel.bars)), [bar.peer for bar in panel.bars], fontsize=9, color=INK)
    for label in axes.get_yticklabels():
        if label.get_text() == "snigate":
            label.set(color=OWN, fontweight="bold")
    axes.set_ylim(slots - 0.5, -0.5)
    axes.set_xlim(0, longest * 1.16)
    bare(axes)


def _draw_bar(axes: Any, position: int, bar: Bar, longest: float) -> None:
    if bar.value is None:
        axes.text(longest * 0.01, position, bar.note or "-", fontsize=8, va="center", color=FAINT, style="italic")
        return
    spread = [[bar.value.median - bar.value.least], [bar.value.most - bar.value.median]]
    own = bar.peer == "snigate"
    line = {"elinewidth": 1, "capsize": 2, "ecolor": INK}
    axes.barh(position, bar.value.median, 0.72, xerr=spread, color=OWN if own else OTHER, error_kw=line)
    axes.annotate(
        _digits(bar.value.median),
        (bar.value.most, position),
        (4, 0),
        textcoords="offset points",
        fontsize=9,
        fontweight="bold" if own else "normal",
        va="center",
        color=INK,
    )


def _draw_overview(compared: list[Comparison], below: str, path: Path) -> Path:
    title = "snigate divided by each peer: left of 1, snigate takes less"
    figure = sheet(0.36 * len(compared) + 1.9, title, below)
    axes = figure.add_subplot()
    for position, one in enumerate(compared):
        axes.axhline(position, color="#e4e7eb", linewidth=1, zorder=0)
        for peer, value in one.ratios.items():
            colour, mark = PEERS.get(peer, (INK, "o"))
            lane = 0.13 * (list(PEERS).index(peer) - 2) if peer in PEERS else 0.0  # so that none hides another
            axes.plot(value, position + lane, mark, color=colour, markersize=6.5, markeredgecolor="white", label=peer)
    every = [value for one in compared for value in one.ratios.values()]
    least, most = min([*every, 0.5]), max([*every, 2.0])
    axes.set_xscale("log")
    axes.set_xlim(least / 1.15, most * 1.15)
    axes.axvspan(least / 2, 1, color="#ebfbee", zorder=-1)
    axes.axvline(1, color=INK, linewidth=1)
    ticks = [one for one in TICKS if least / 1.1 <= one <= most * 1.1]
    axes.set_xticks(ticks, [f"{one:g}" for one in ticks], minor=False)
    axes.minorticks_off()
    axes.set_yticks(range(len(compared)), [_named(one) for one in compared], fontsize=9, color=INK)
    axes.set_ylim(len(compared) - 0.5, -0.5)
    bare(axes)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    ordered = [peer for peer in PEERS if peer in handles]
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend([handles[peer] for peer in ordered], ordered, ncols=len(ordered), frameon=False, fontsize=9, **above)
    return save(figure, path)


def _named(one: Comparison) -> str:
    return f"{one.title}: {FIGURES[one.figure].words}"


def sheet(height: float, title: str, below: str) -> Any:
    """A figure of the usual width, with what is said above and below."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1, wspace=0.03, hspace=0.03)
    made = Figure(figsize=(WIDTH, height), layout=layout, facecolor="white")
    made.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK)
    made.supxlabel(below, x=0.012, ha="left", fontsize=7, color=FAINT)
    return made


def bare(axes: Any) -> None:
    """Leave out of a panel what is no figure."""
    axes.tick_params(length=0, labelsize=None)
    axes.tick_params(axis="x", labelsize=8, labelcolor=FAINT)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("#cbd2d9")
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)


def _digits(value: float) -> str:
    """Three digits of it."""
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def save(figure: Any, path: Path) -> Path:
    """Write it; its path."""
    figure.savefig(path, dpi=DPI)
    return path
