"""When certificates expire, as a picture: a bar for each, from now on, the most urgent on top."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from admin.answers import Certificate

DAYS = 90.0  # shown
MOST = 20  # certificates
WIDTH, ROW, LABEL = 640, 22, 220  # in the picture's units
URGENT, SOON = 7.0, 30.0  # days, as the commands have it


class Bar(NamedTuple):
    """One certificate's."""

    label: str
    days: str
    y: int
    width: float
    kind: str  # "expired", "urgent", "soon" or "good"


class Timeline(NamedTuple):
    """What the template draws."""

    bars: Sequence[Bar]
    marks: Sequence[tuple[float, str]]  # where, and what is written there
    height: int
    more: int  # certificates that are not shown


def timeline(certificates: Iterable[Certificate]) -> Timeline:
    """Of those that serve something, the ones that expire first."""
    serving = sorted((one for one in certificates if one.serves or one.is_default), key=lambda one: one.days_left)
    room = WIDTH - LABEL
    bars = [
        Bar(
            label=(*one.names, *one.addresses, one.fingerprint[:16])[0],
            days=f"{one.days_left:g}",
            y=place * ROW,
            width=max(2.0, round(min(one.days_left, DAYS) / DAYS * room, 1)),
            kind=kind(one.days_left),
        )
        for place, one in enumerate(serving[:MOST])
    ]
    marks = [(LABEL + days / DAYS * room, f"{days:g} d") for days in (0.0, 30.0, 60.0)]
    return Timeline(bars, marks, len(bars) * ROW + 24, max(0, len(serving) - MOST))


def kind(days: float) -> str:
    """How urgent that is."""
    if days <= 0:
        return "expired"
    return "urgent" if days < URGENT else "soon" if days < SOON else "good"
