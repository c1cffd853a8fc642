"""Handshakes: a connection, a full or resumed handshake, one short request and its answer, close."""

from __future__ import annotations

from functools import partial

from benchmarks import client
from benchmarks.cases.case import Case, NotAbleError
from benchmarks.client import Offer
from benchmarks.connections import Load, Outcome, hold, probe
from benchmarks.measure import Meter, Sample, latencies, metered
from benchmarks.peers.peer import Ability, Peer
from benchmarks.server import Running
from benchmarks.stage import Stage, Wanted, target

RESUMED_LEAST = 99.0  # percent


def handshakes(stage: Stage, peer: Peer, *, offer: Offer, wanted: Wanted = Wanted()) -> Sample:  # noqa: B008
    """CPU for each, rate and latency with several in flight."""
    return measured(stage, stage.running(peer, wanted), offer)


def two_workers(stage: Stage, peer: Peer) -> Sample:
    """Two workers on both cores with the load beside them, and one worker alone on its core, at the same load.

    What is compared is normalised by CPU, since the load takes its part of the second core: connections that a second
    of CPU is good for, times the cores that the workers may use.
    """
    one, two = (stage.running(peer, Wanted(workers=workers)) for workers in (1, 2))
    # In this order, so that what changes on the machine meanwhile changes both alike.
    ones, twos, twos_again, ones_again = (measured(stage, server, Offer()) for server in (one, two, two, one))
    cpu = (twos["cpu_us"] + twos_again["cpu_us"]) / 2
    speedup = (ones["cpu_us"] + ones_again["cpu_us"]) / cpu if cpu else float("nan")
    return {**twos, "cpu_us": cpu, "speedup": speedup}


def with_idle(stage: Stage, peer: Peer) -> Sample:
    """The same, while many other connections are open and idle."""
    running = stage.running(peer, Wanted())
    held = hold(target(running), Offer(), stage.effort.idle)
    try:
        return measured(stage, running, Offer())
    finally:
        for one in held:
            one.close()


def measured(stage: Stage, running: Running, offer: Offer) -> Sample:
    """One load of handshakes against a running server."""
    found = client.negotiated(probe(target(running), offer).tls)
    if not offer.agrees(found):
        raise NotAbleError(f"it negotiated {found}")
    load, count = Load(target(running), offer, stage.effort.in_flight), stage.effort.handshakes
    if offer.resume:
        load.count(1)
    with metered(running) as meter:
        outcome = load.count(count)
    made = sample(outcome, count, meter)
    if running.site.workers > 1 and meter.cpu:  # the kernel counts in ticks of 10 ms: too little may be none
        made["busier_percent"] = 100 * meter.busiest / meter.cpu
    if offer.resume:
        made["resumed_percent"] = 100 * outcome.resumed / count
    return made


def sample(outcome: Outcome, count: int, meter: Meter) -> Sample:
    """The figures of `count` handshakes."""
    if outcome.failures:
        raise NotAbleError(f"{len(outcome.failures)} of {count} connections failed: {outcome.failures[0]}")
    return {
        "cpu_us": meter.cpu / count * 1e6,
        "rate": count / outcome.seconds,
        **latencies(outcome.latencies),
        "busy_percent": 100 * meter.cpu / outcome.seconds,
        "peak_mb": meter.peak / 1e6,
    }


def resumed(stage: Stage, peer: Peer) -> Sample:
    """Resumed handshakes; if they are."""
    made = handshakes(stage, peer, offer=Offer(resume=True))
    if made["resumed_percent"] < RESUMED_LEAST:
        raise NotAbleError(f"only {made['resumed_percent']:.3g} % were resumed")
    return made


def _case(name: str, title: str, offer: Offer, wanted: Wanted, needs: Ability | None = None) -> Case:
    return Case(name, title, "cpu_us", "handshakes", partial(handshakes, offer=offer, wanted=wanted), needs)


_EC, _RSA = Wanted(), Wanted("rsa-2048")
# In TLS 1.2 the groups also say which curves a certificate may have, so P-256 is there, last.
_TLS12 = Offer(client.TLS12, "X25519:P-256")
_HYBRID = Offer(group="X25519MLKEM768")
CASES = [
    _case("ecdsa", "full handshake, ECDSA P-256, TLS 1.3, X25519", Offer(), _EC),
    _case("rsa", "full handshake, RSA-2048, TLS 1.3, X25519", Offer(), _RSA),
    _case("ecdsa-tls12", "full handshake, ECDSA P-256, TLS 1.2, X25519", _TLS12, _EC),
    _case("rsa-tls12", "full handshake, RSA-2048, TLS 1.2, X25519", _TLS12, _RSA),
    _case("hybrid", "full handshake, ECDSA P-256, TLS 1.3, X25519MLKEM768", _HYBRID, _EC, Ability.HYBRID_KEY_EXCHANGE),
    Case("resumed", "resumed handshake, TLS 1.3, X25519", "cpu_us", "handshakes", resumed),
    Case("busy-idle", "full handshake while 2,000 connections are idle", "cpu_us", "handshakes", with_idle),
    Case("two-workers", "full handshake, two workers", "speedup", "workers", two_workers, Ability.TWO_WORKERS),
    Case(
        "resumed-two-workers",
        "resumed by any of two workers",
        "resumed_percent",
        "workers",
        partial(handshakes, offer=Offer(resume=True), wanted=Wanted(workers=2)),
        Ability.TWO_WORKERS,
    ),
    Case(
        "passthrough",
        "connection passed through by its server name",
        "cpu_us",
        "handshakes",
        partial(handshakes, offer=Offer(), wanted=Wanted(passthrough=True)),
        Ability.PASSTHROUGH,
    ),
]
