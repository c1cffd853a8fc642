"""The chart of a soak as a PNG file, by matplotlib, which only who draws needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.drawing import FAINT, INK, OWN, bare, save, sheet
from soak.record import Record
from soak.report import remarks
from soak.verdict import is_quiet

MARKS = {  # colour, width and words of what was done
    "swap": ("#e4e7eb", 0.6, "certificate swapped"),
    "reload": ("#2f9e44", 1.2, "reload"),
    "refusal": ("#f08c00", 0.9, "reload refused"),
    "kill": ("#e03131", 1.4, "worker killed"),
}
COLOURS = ("#1971c2", "#74b816", "#9c36b5", "#0c8599", "#f08c00", "#868e96")
MEGABYTE = 1 << 20
HEIGHT = 11.0  # inches


def draw(record: Record, path: Path) -> None:
    """Write it."""
    figure = sheet(HEIGHT, "A soak of snigate", "\n".join(remarks(record)))
    panels = figure.subplots(5, 1, sharex=True, height_ratios=(1.5, 1, 1, 1, 1.2))
    for draw_panel, axes in zip((_memory, _descriptors, _rate, _cpu, _handshakes), panels, strict=True):
        draw_panel(axes, record)
        _mark(axes, record)
        bare(axes)
        axes.grid(axis="x", visible=False)  # the marks are lines enough
        axes.grid(axis="y", color="#e4e7eb", linewidth=0.6)
        axes.tick_params(axis="y", labelsize=8, labelcolor=FAINT)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, record.plan.seconds / 60)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    panels[-1].set_xlabel("minutes", fontsize=8, color=FAINT, loc="left")
    save(figure, path)


def _memory(axes: Any, record: Record) -> None:
    times = [one.at / 60 for one in record.samples]
    totals = [sum(one.memory.values()) / MEGABYTE for one in record.samples]
    axes.plot(times, totals, color=OWN, linewidth=1.6, label="all processes")
    for name, colour in zip(_names(record), COLOURS, strict=False):
        values = [one.memory[name] / MEGABYTE if name in one.memory else None for one in record.samples]
        axes.plot(times, values, color=colour, linewidth=1.0, label=name)
    _title(axes, "memory (PSS), MB")


def _descriptors(axes: Any, record: Record) -> None:
    times = [one.at / 60 for one in record.samples]
    axes.plot(times, [sum(one.descriptors.values()) for one in record.samples], color=OWN, label="descriptors")
    axes.plot(times, [one.active for one in record.samples], color=COLOURS[0], label="open connections")
    _title(axes, "descriptors of all processes, and connections open")


def _rate(axes: Any, record: Record) -> None:
    width = record.plan.window
    times = [(one.at + width / 2) / 60 for one in record.windows]
    for name, colour, values in (
        ("served", COLOURS[1], [one.served for one in record.windows]),
        ("failed on purpose", COLOURS[4], [one.deliberate for one in record.windows]),
        ("went wrong", "#e03131", [one.failed for one in record.windows]),
    ):
        axes.plot(times, [value / width for value in values], color=colour, label=name)
    _title(axes, "connections a second")


def _cpu(axes: Any, record: Record) -> None:
    pairs = list(zip(record.samples, record.samples[1:], strict=False))[1:-1]
    times = [two.at / 60 for _, two in pairs]
    shares = [max(0.0, (two.cpu - one.cpu) / (two.at - one.at)) * 100 for one, two in pairs]
    others = [max(0.0, (two.others - one.others) / (two.at - one.at)) * 100 for one, two in pairs]
    axes.plot(times, others, color="#ced4da", linewidth=0.9, label="others on the machine")
    axes.plot(times, shares, color=OWN, linewidth=0.9, label="snigate, all processes")
    _title(axes, "CPU, % of a core")


def _handshakes(axes: Any, record: Record) -> None:
    times = [(one.at + record.plan.window / 2) / 60 for one in record.windows]
    for name, colour, seconds in (
        ("p50", COLOURS[0], [one.p50 for one in record.windows]),
        ("p99", OWN, [one.p99 for one in record.windows]),
    ):
        axes.plot(times, [None if one is None else one * 1e3 for one in seconds], color=colour, linewidth=1, label=name)
    judged = [(at, one.p99 * 1e3) for at, one in zip(times, record.windows, strict=True) if is_quiet(one) and one.p99]
    places, values = [at for at, _ in judged], [value for _, value in judged]
    axes.plot(places, values, "o", color=OWN, markersize=4, label="p99, the machine quiet")
    _title(axes, f"handshakes as clients see them, ms (of {record.plan.window:g} s each)")


def _names(record: Record) -> list[str]:
    return list(dict.fromkeys(name for one in record.samples for name in one.memory))


def _mark(axes: Any, record: Record) -> None:
    said = set[str]()
    for event in record.events:
        colour, width, words = MARKS[event.kind]
        label = words if event.kind not in said and axes.get_subplotspec().is_last_row() else None
        said.add(event.kind)
        axes.axvline(event.at / 60, color=colour, linewidth=width, zorder=0, label=label)


def _title(axes: Any, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=9, fontweight="bold", color=INK)
