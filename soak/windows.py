"""What the clients saw, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.measure import percentile
from soak.record import Sample, Visit, Window

GOOD = ("served", "redirected")


def windows(
    visits: Iterable[Visit], samples: Sequence[Sample], begin: float, seconds: float, width: float
) -> list[Window]:
    """One for each `width` seconds, by the moment at which a connection began; `begin` is Unix seconds."""
    parts: list[list[Visit]] = [[] for _ in range(max(1, round(seconds / width)))]
    for visit in visits:
        parts[min(int((visit.began - begin) / width), len(parts) - 1)].append(visit)
    return [_window(number * width, part, _others(samples, number * width, width)) for number, part in enumerate(parts)]


def _others(samples: Sequence[Sample], at: float, width: float) -> float:
    """CPUs that were busy with other things, by the samples just before and just after."""
    before = max((one for one in samples if one.at <= at), key=lambda one: one.at, default=samples[0])
    after = min((one for one in samples if one.at >= at + width), key=lambda one: one.at, default=samples[-1])
    return round((after.others - before.others) / max(after.at - before.at, 1.0), 2)


def _window(at: float, visits: Sequence[Visit], others: float) -> Window:
    good = [visit for visit in visits if not visit.error]
    served = sum(visit.outcome in GOOD for visit in good)
    timed = [visit.handshake for visit in good if visit.handshake is not None]
    return Window(
        at=at,
        served=served,
        deliberate=len(good) - served,
        failed=len(visits) - len(good),
        others=others,
        handshakes=len(timed),
        p50=_rounded(percentile(timed, 50)) if timed else None,
        p99=_rounded(percentile(timed, 99)) if timed else None,
    )


def _rounded(seconds: float) -> float:
    return round(seconds, 6)
