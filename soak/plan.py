"""How long a soak lasts, how much is done in it, and when what is done to snigate is due."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# What is done to snigate's configuration, again and again: few are taken in, so that workers have time to grow old.
RELOADS = ("reload", "refusal", "refusal")


class Crowd(msgspec.Struct, frozen=True):
    """A process with clients of one sort: the share of all connections that is theirs, and how many at a time."""

    name: str
    sort: str
    share: float
    threads: int


CROWDS = (
    Crowd("brisk", "brisk", 0.7, 1),  # one thread, so that nothing of its own disturbs what it measures
    Crowd("lasting", "lasting", 0.06, 8),
    Crowd("rude", "rude", 0.24, 24),
    Crowd("held", "held", 0.0, 2),
)


class Plan(msgspec.Struct, frozen=True):
    """A soak. Times are seconds."""

    seconds: float = 1200.0
    rate: float = 50.0  # connections a second, in all
    swap_every: float = 10.0
    reload_every: float = 60.0
    kill_every: float = 0.0  # 0: no worker is killed
    sample_every: float = 2.0
    window: float = 10.0  # of rates and latencies


class Deed(msgspec.Struct, frozen=True, order=True):
    """Something that is done to snigate: a "swap", a "reload", a "refusal" (a reload in vain) or a "kill"."""

    at: float
    kind: str


def deeds(plan: Plan) -> list[Deed]:
    """All of them, in order. The first reload, after which more processes run, belongs to the first quarter."""
    made = [Deed(at, "swap") for at in _times(plan.swap_every, plan.swap_every, plan.seconds)]
    reloads = _times(min(plan.reload_every / 2, plan.seconds / 6), plan.reload_every, plan.seconds)
    made += [Deed(at, RELOADS[number % len(RELOADS)]) for number, at in enumerate(reloads)]
    if plan.kill_every:
        made += [Deed(at, "kill") for at in _times(plan.kill_every / 2, plan.kill_every, plan.seconds)]
    return sorted(made)


def _times(first: float, every: float, end: float) -> Sequence[float]:
    count = int((end - first) / every) + 1 if first < end else 0
    return [at for number in range(count) if (at := first + number * every) < end]
