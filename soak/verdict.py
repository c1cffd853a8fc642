"""What a soak must show, and whether it does.

The first quarter is for warming up; what must stay as it is, is compared between the second quarter and the last.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby

from soak.accounts import wrong
from soak.processes import RETIRED
from soak.record import Count, Event, Finding, Sample, Visit, Window

SHARE = 0.05  # by which memory may grow, or by so many bytes, whichever is more
BYTES, BYTES_IN_ALL = 4 << 20, 8 << 20  # of one process, and of all
DRIFT = 0.1  # by which the p99 of handshakes may
QUIET = 0.5  # CPUs that may be busy with other things in a window whose latencies are to say something
ENOUGH = 5  # such windows in a quarter
ON_PURPOSE = ("reload refused", "backend down: ", "was killed by signal 9")  # what an error may be of
FEW = 8  # samples of a generation's life that are too few to say anything
NAMED = 3  # things that are named where something is wrong
MEGABYTE = 1 << 20


def no_errors(visits: Sequence[Visit], unexplained: Sequence[Visit]) -> Finding:
    """No client saw anything that was not done on purpose."""
    killed = sum(bool(one.error) for one in visits) - len(unexplained)
    found = f"{len(unexplained)} of {len(visits):,} connections"
    found += f" ({killed} were cut with a killed worker)" if killed else ""
    found += _named(f"{one.kind} on {one.listener}: {one.error}" for one in unexplained)
    return Finding("unexplained errors", found, "none", not unexplained)


def counted_alike(counts: Sequence[Count]) -> Finding:
    """snigate has counted what its clients saw."""
    others = wrong(counts)
    found = f"{len(others)} of {len(counts)} series differ" + _named(
        f"{one.series}: {one.counted}, not {one.least}" + (f" to {one.most}" if one.most > one.least else "")
        for one in others
    )
    return Finding("clients' view and metrics", found, "equal", bool(counts) and not others)


def no_stale(stale: Sequence[Visit], patience: float) -> Finding:
    """No client was shown a certificate long after it had been replaced."""
    found = f"{len(stale)} connections" + _named(f"{one.name}, {one.fingerprint[:16]}" for one in stale)
    return Finding(f"certificates replaced over {patience:g} s before", found, "none", not stale)


def swaps_seen(swaps: Sequence[Event], visits: Iterable[Visit], end: float, patience: float) -> Finding:
    """Every new certificate was shown to somebody, where it was there for `patience` seconds before the next."""
    seen = {visit.fingerprint for visit in visits}
    gone, following = dict[str, float](), dict[str, float]()
    for one in reversed(swaps):
        gone[one.fingerprint] = following.get(one.name, end)
        following[one.name] = one.at
    due = [one for one in swaps if gone[one.fingerprint] - one.at >= patience]
    missing = [one for one in due if one.fingerprint not in seen]
    found = f"{len(due) - len(missing)} of {len(due)}" + _named(f"{one.name} at {one.at:.0f} s" for one in missing)
    return Finding("swapped certificates shown to clients", found, "all", bool(due) and not missing)


def reloads(events: Sequence[Event], applied: float, rejected: float) -> Finding:
    """Reloads were taken in and refused as they had to be."""
    done = [sum(event.kind == kind for event in events) for kind in ("reload", "refusal")]
    wanted = f"{done[0]} applied, {done[1]} refused"
    found = f"{applied:.0f} applied, {rejected:.0f} refused"
    return Finding("reloads", found, wanted, found == wanted)


def restarts(events: Sequence[Event], restarted: float) -> Finding:
    """Workers were started anew because they had been killed, and not otherwise."""
    kills = sum(event.kind == "kill" for event in events)
    return Finding("workers started again", f"{restarted:.0f}", f"{kills}, as many as were killed", restarted == kills)


def quiet_log(log: str) -> Finding:
    """Nothing is in the log at level error or above but what was done on purpose."""
    lines = [line for line in log.splitlines() if " error " in line or " critical " in line or "Traceback" in line]
    others = [line for line in lines if not any(words in line for words in ON_PURPOSE)]
    found = f"{len(others)} lines" + _named(others)
    return Finding("errors in the log", found, "what was done on purpose alone", not others)


def memory(samples: Sequence[Sample], seconds: float) -> list[Finding]:
    """Memory is flat: all of it, and that of each process."""
    names = [name for name in dict.fromkeys(name for one in samples for name in one.memory) if name != RETIRED]
    return [
        _flat("memory, all processes", samples, seconds, _all, BYTES_IN_ALL),
        *(_flat(f"memory, {name}", samples, seconds, partial(_of, name)) for name in names),
    ]


def ageing(samples: Sequence[Sample]) -> Finding:
    """The workers of one generation do not grow while they grow old."""
    lives = [list(life) for _, life in groupby(samples, key=lambda one: one.generation)]
    grown = []
    for life in lives:
        quarter = len(life) // 4
        if quarter * 4 >= FEW:
            early, late = life[quarter : 2 * quarter], life[-quarter:]
            grown.append(_median(late, _workers) - _median(early, _workers))
    middle = statistics.median(grown) if grown else 0.0
    found = f"{middle / MEGABYTE:+.1f} MB, the median of {len(grown)}"
    wanted = f"at most {_megabytes(BYTES)} more"
    return Finding("memory of a generation's workers over its life", found, wanted, middle <= BYTES)


def descriptors(first: Sample, last: Sample) -> Finding:
    """No process has more descriptors open than before the first connection; none of a replaced generation is left."""
    grown = {name: (first.descriptors.get(name, 0), now) for name, now in last.descriptors.items()}
    more = [f"{name}: {before}, now {now}" for name, (before, now) in grown.items() if now > before]
    found = f"{sum(last.descriptors.values())}, {sum(first.descriptors.values())} at the start" + _named(more)
    return Finding("descriptors at the end", found, "in no process more than at the start", not more)


def connections(last: Sample) -> Finding:
    """No connection is left."""
    return Finding("open connections at the end", str(last.active), "0", last.active == 0)


def effort(samples: Sequence[Sample], seconds: float) -> Finding:
    """snigate takes no more CPU for the same traffic in the end than in the second quarter, by the machine's pace."""
    parts = [
        [one for one in samples if start <= one.at / seconds < start + 0.25 and one.pace] for start in (0.25, 0.75)
    ]
    name, wanted = "CPU in the last quarter, by the machine's pace", f"at most {DRIFT:.0%} more"
    if min(map(len, parts)) < FEW:
        return Finding(name, "too short to say", wanted, good=False, is_timing=True)
    shares = [(part[-1].cpu - part[0].cpu) / (part[-1].at - part[0].at) for part in parts]
    paces = [statistics.median(one.pace for one in part) for part in parts]
    grown = (shares[1] / paces[1]) / (shares[0] / paces[0]) - 1
    found = (
        f"{shares[1]:.1%} of a core, {shares[0]:.1%} in the second quarter; the same work took {paces[1]:.2f} ms, "
        f"{paces[0]:.2f} ms then ({grown:+.1%})"
    )
    return Finding(name, found, wanted, grown <= DRIFT, is_timing=True)


def is_quiet(window: Window) -> bool:
    """Whether the machine did little else in it."""
    return window.others <= QUIET


def drift(windows: Sequence[Window]) -> Finding:
    """Handshakes take no longer in the end than in the second quarter: medians of the windows' p99.

    Only of windows in which the machine did little else: what others do on it is not snigate's drift.
    """
    name, wanted = "p99 of handshakes, last quarter", f"at most {DRIFT:.0%} more"
    quarter = len(windows) // 4
    parts = windows[quarter : 2 * quarter], windows[len(windows) - quarter :]
    early, late = ([one.p99 for one in part if one.p99 is not None and is_quiet(one)] for part in parts)
    if min(len(early), len(late)) < ENOUGH:
        found = f"too short, or the machine too busy: {len(early)} and {len(late)} quiet windows"
        return Finding(name, found, wanted, good=False, is_timing=True)
    before, now = statistics.median(early), statistics.median(late)
    found = (
        f"{now * 1e3:.2f} ms, {before * 1e3:.2f} ms in the second quarter ({now / before - 1:+.1%}); "
        f"{len(late)} and {len(early)} quiet windows of {quarter}"
    )
    return Finding(name, found, wanted, now <= before * (1 + DRIFT), is_timing=True)


def _flat(
    name: str, samples: Sequence[Sample], seconds: float, figure: Callable[[Sample], int | None], least: int = BYTES
) -> Finding:
    early = _median([one for one in samples if seconds / 4 <= one.at < seconds / 2], figure)
    late = _median([one for one in samples if seconds * 3 / 4 <= one.at < seconds], figure)
    allowed = max(least, early * SHARE)
    found = f"{_megabytes(late)}, {_megabytes(early)} in the second quarter ({(late - early) / MEGABYTE:+.1f} MB)"
    return Finding(name, found, f"at most {_megabytes(allowed)} more", early > 0 and late - early <= allowed)


def _all(sample: Sample) -> int:
    return sum(sample.memory.values())


def _of(name: str, sample: Sample) -> int | None:
    return sample.memory.get(name)


def _workers(sample: Sample) -> int:
    return sum(size for name, size in sample.memory.items() if name.startswith("worker "))


def _median(samples: Iterable[Sample], figure: Callable[[Sample], int | None]) -> float:
    values = [value for one in samples if (value := figure(one))]
    return statistics.median(values) if values else 0.0


def _megabytes(size: float) -> str:
    return f"{size / MEGABYTE:.1f} MB"


def _named(several: Iterable[str]) -> str:
    """The first of them, behind what was said."""
    listed = list(several)
    rest = f"; and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return f": {'; '.join(listed[:NAMED])}{rest}" if listed else ""
