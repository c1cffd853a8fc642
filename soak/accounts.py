"""Whether snigate has counted what its clients saw: series by series, exactly.

Where a worker was killed, what was open in it at that moment may or may not have been counted, and so may what ended
just before and was not written yet. That is all that a kill explains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from soak.record import Count, Event, Visit

UNWRITTEN = 0.5  # seconds; a worker writes what it has counted every fifth of a second, and at a busy time a bit later
NOTICED = 5.0  # seconds
CONNECTIONS, HANDSHAKES = "snigate_connections_total", "snigate_handshakes_total"
FAILURES, CONNECT_FAILURES = "snigate_handshake_failures_total", "snigate_backend_connect_failures_total"
COMPARED = (CONNECTIONS, HANDSHAKES, FAILURES, CONNECT_FAILURES)
Series = str


def series_of(visit: Visit) -> list[Series]:
    """Every series in which a connection counts once."""
    made = []
    if visit.version:
        resumed = "yes" if visit.resumed else "no"
        made.append(_series(HANDSHAKES, visit.listener, version=visit.version, resumed=resumed))
    if not visit.error:
        made.append(_series(CONNECTIONS, visit.listener, outcome=visit.outcome))
        if visit.reason:
            made.append(_series(FAILURES, visit.listener, reason=visit.reason))
        if visit.outcome == "backend_unreachable":
            made.append(f'{CONNECT_FAILURES}{{backend="{visit.name.partition(".")[0]}"}}')
    return made


def explained(visit: Visit, kills: Sequence[float]) -> bool:
    """Whether a connection was open when a worker was killed, or may not have been counted yet.

    An error is explained only where it was noticed at once, or after the longest rest that a client takes.
    """
    return any(
        visit.began <= moment <= visit.ended + UNWRITTEN and not (visit.error and visit.ended > moment + NOTICED)
        for moment in kills
    )


def counts(visits: Iterable[Visit], kills: Sequence[float], counted: Mapping[Series, int]) -> list[Count]:
    """Every series with what snigate has counted, and what it should have."""
    least: Counter[Series] = Counter()
    most: Counter[Series] = Counter()
    for visit in visits:
        found = series_of(visit)
        most.update(found)
        if not explained(visit, kills):
            least.update(found)
    return [Count(one, counted.get(one, 0), least[one], most[one]) for one in sorted({*most, *counted})]


def wrong(found: Iterable[Count]) -> list[Count]:
    """Those where it has counted something else."""
    return [one for one in found if not one.least <= one.counted <= one.most]


def unexplained(visits: Iterable[Visit], kills: Sequence[float]) -> list[Visit]:
    """Connections that went wrong, and that no kill explains."""
    return [visit for visit in visits if visit.error and not explained(visit, kills)]


def stale(visits: Iterable[Visit], swaps: Sequence[Event], patience: float) -> list[Visit]:
    """Connections that were shown a certificate that had been replaced for longer than `patience` when they began.

    Times of events are Unix seconds here.
    """
    gone: dict[str, float] = {}
    newest: dict[str, str] = {}
    for swap in sorted(swaps, key=lambda one: one.at):
        if swap.name in newest:
            gone[newest[swap.name]] = swap.at
        newest[swap.name] = swap.fingerprint
    return [visit for visit in visits if visit.began > gone.get(visit.fingerprint, float("inf")) + patience]


def parsed(exposition: str) -> dict[Series, int]:
    """The compared series out of Prometheus' text format, those that are not 0."""
    found = {}
    for line in exposition.splitlines():
        series, _, value = line.rpartition(" ")
        name, _, labels = series.rstrip("}").partition("{")
        if name in COMPARED and float(value):
            found[f"{name}{{{','.join(sorted(labels.split(',')))}}}"] = int(float(value))
    return found


def growth(before: Mapping[Series, int], after: Mapping[Series, int]) -> dict[Series, int]:
    """How much each series has grown."""
    return {one: after[one] - before.get(one, 0) for one in after if after[one] != before.get(one, 0)}


def _series(metric: str, listener: str, **labels: str) -> Series:
    pairs = {"listener": listener, **labels}
    inside = ",".join(f'{key}="{pairs[key]}"' for key in sorted(pairs))
    return f"{metric}{{{inside}}}"
