"""A soak, from the first connection to the verdict."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from admin.version import version
from benchmarks.machine import commit, machine
from soak import accounts, verdict
from soak.crowd import Orders
from soak.plan import CROWDS, Crowd, Plan, deeds
from soak.processes import sample
from soak.record import Count, Event, Finding, Record, Sample, Visit, Window
from soak.site import ROOT, Site
from soak.windows import windows
from tests.support.snigate import Snigate, wait_for

LONGEST = 45.0  # seconds that a connection may still take when its time is over
STALE = 10.0  # seconds after which nobody may be shown what has been replaced
SEEN = 20.0  # seconds in which somebody has certainly been shown a new one
Say = Callable[[str], None]


@dataclass
class Seen:
    """What comes together in a soak."""

    begin: float = 0.0  # Unix seconds
    samples: list[Sample] = field(default_factory=list)  # the first before all connections, the last after them
    events: list[Event] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)


def soak(plan: Plan, directory: Path, say: Say) -> Record:
    """Do it all, in a directory of its own. Raises AssertionError where snigate itself does not do as it is told."""
    seen = Seen()
    date, state = datetime.now(UTC).isoformat(timespec="seconds"), commit()
    with Site(directory) as site:
        snigate = site.snigate
        before = accounts.parsed(_metrics(snigate))
        seen.samples.append(sample(snigate, 0.0))
        seen.begin = time.time() + 1
        seen.events += [Event(-1.0, "swap", name, fingerprint) for name, fingerprint in site.shown.items()]
        with ExitStack() as stack:
            crowds = [stack.enter_context(_gathering(crowd, plan, site, seen.begin, directory)) for crowd in CROWDS]
            _play(plan, site, seen, say)
            _wait_for_all(crowds)
        with suppress(AssertionError):  # the verdict says what is left
            wait_for(lambda: _is_over(snigate), "every connection has ended, and every replaced worker")
        seen.samples.append(sample(snigate, time.time() - seen.begin))
        seen.counted = accounts.growth(before, accounts.parsed(_metrics(snigate)))
        seen.visits = _read(directory)
        kills = [seen.begin + one.at for one in seen.events if one.kind == "kill"]
        counts = accounts.counts(seen.visits, kills, seen.counted)
        views = windows(seen.visits, seen.samples, seen.begin, plan.seconds, plan.window)
        found = _findings(plan, snigate, seen, counts, kills, views)
    return Record(
        date=date,
        commit=state,
        version=version(),
        machine=machine(),
        plan=plan,
        kinds=dict(sorted(Counter(one.kind for one in seen.visits).items())),
        counts=counts,
        events=seen.events[len(site.shown) :],
        samples=seen.samples,
        windows=views,
        findings=found,
    )


def _play(plan: Plan, site: Site, seen: Seen, say: Say) -> None:
    """Do each deed when it is due, and look at the processes in between, until the time is over."""
    due, look = deeds(plan), 0.0
    while (now := time.time() - seen.begin) < plan.seconds:
        if due and due[0].at <= now:
            deed = due.pop(0)
            event = site.do(msgspec.structs.replace(deed, at=round(now, 2)))
            if event.kind == "kill":
                event.at = round(time.time() - seen.begin, 3)  # not the moment before, when it was only intended
            seen.events.append(event)
            if event.kind != "swap":
                say(f"{now:6.0f} s: {event.kind}")
        elif look <= now:
            seen.samples.append(sample(site.snigate, now))
            look = now + plan.sample_every
        else:
            upcoming = min([look, plan.seconds, *(deed.at for deed in due[:1])])
            time.sleep(max(0.0, seen.begin + upcoming - time.time()))


@contextmanager
def _gathering(
    crowd: Crowd, plan: Plan, site: Site, begin: float, directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A crowd's process, ended with the block whatever happens."""
    orders = Orders(
        crowd=crowd,
        rate=plan.rate * crowd.share,
        begin=begin,
        end=begin + plan.seconds,
        ports=site.ports,
        roots=site.roots,
        file=str(directory / f"visits-{crowd.name}.jsonl"),
    )
    with subprocess.Popen([sys.executable, "-m", "soak.crowd"], cwd=ROOT, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(msgspec.json.encode(orders))
            yield process
        finally:
            process.kill()


def _wait_for_all(crowds: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + LONGEST
    for process in crowds:
        assert process.wait(max(0.0, deadline - time.monotonic())) == 0


def _is_over(snigate: Snigate) -> bool:
    states = [one["state"] for one in snigate.api("/api/v1/status")["processes"]]
    return snigate.metric("snigate_connections_active") == 0 and set(states) == {"ready"}


def _metrics(snigate: Snigate) -> str:
    return snigate.get("/metrics", token=False)[1]


def _read(directory: Path) -> list[Visit]:
    decoder = msgspec.json.Decoder(Visit)
    return [visit for path in directory.glob("visits-*.jsonl") for visit in decoder.decode_lines(path.read_bytes())]


def _findings(
    plan: Plan,
    snigate: Snigate,
    seen: Seen,
    counts: Sequence[Count],
    kills: Sequence[float],
    views: Sequence[Window],
) -> list[Finding]:
    swaps = [one for one in seen.events if one.kind == "swap"]
    moments = [msgspec.structs.replace(one, at=seen.begin + one.at) for one in swaps]
    during = [one for one in seen.samples if 0 < one.at < plan.seconds]
    return [
        verdict.no_errors(seen.visits, accounts.unexplained(seen.visits, kills)),
        verdict.counted_alike(counts),
        verdict.swaps_seen(swaps, seen.visits, plan.seconds, SEEN),
        verdict.no_stale(accounts.stale(seen.visits, moments, STALE), STALE),
        verdict.reloads(
            seen.events,
            snigate.metric("snigate_config_reloads_total", result="applied"),
            snigate.metric("snigate_config_reloads_total", result="rejected"),
        ),
        verdict.restarts(seen.events, snigate.metric("snigate_worker_restarts_total")),
        verdict.quiet_log(snigate.log),
        *verdict.memory(during, plan.seconds),
        verdict.ageing(during),
        verdict.descriptors(seen.samples[0], seen.samples[-1]),
        verdict.connections(seen.samples[-1]),
        verdict.effort(during, plan.seconds),
        verdict.drift(views),
    ]
