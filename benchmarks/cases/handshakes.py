"""Handshakes: a connection, a full or resumed handshake, one short request and its answer, close."""

from __future__ import annotations

from functools import partial

from benchmarks import client
from benchmarks.cases.case import Case, NotAbleError
from benchmarks.client import Offer
from benchmarks.connections import Load, Outcome, hold
from benchmarks.measure import Sample, latencies, metered
from benchmarks.peers.peer import Ability, Peer
from benchmarks.server import Running
from benchmarks.stage import Stage, Wanted, target


def handshakes(stage: Stage, peer: Peer, *, offer: Offer, wanted: Wanted = Wanted()) -> Sample:  # noqa: B008
    """CPU for each, rate and latency with several in flight."""
    return measured(stage, stage.running(peer, wanted), offer)


def two_workers(stage: Stage, peer: Peer) -> Sample:
    """Two workers on both cores, the load beside them, and how their CPU compares with one worker's on its own core."""
    one = measured(stage, stage.running(peer, Wanted()), Offer())
    two = measured(stage, stage.running(peer, Wanted(workers=2)), Offer())
    return {**two, "cpu_ratio": two["cpu_us"] / one["cpu_us"]}


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
    load = Load(target(running), offer, stage.effort.in_flight)
    if offer.resume:
        load.count(1)
    with metered(running) as meter:
        outcome = load.count(stage.effort.handshakes)
    return sample(outcome, stage.effort.handshakes, meter.cpu, meter.peak)


def sample(outcome: Outcome, count: int, cpu: float, peak: int) -> Sample:
    """The figures of `count` handshakes."""
    if outcome.failures:
        raise NotAbleError(f"{len(outcome.failures)} of {count} connections failed: {outcome.failures[0]}")
    resumed = {"resumed_percent": 100 * outcome.resumed / count} if outcome.resumed else {}
    return {
        "cpu_us": cpu / count * 1e6,
        "rate": count / outcome.seconds,
        **latencies(outcome.latencies),
        "peak_mb": peak / 1e6,
        **resumed,
    }


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
    _case("resumed", "resumed handshake, TLS 1.3, X25519", Offer(resume=True), _EC),
    Case("busy-idle", "full handshake while 2,000 connections are idle", "cpu_us", "handshakes", with_idle),
    Case("two-workers", "full handshake, two workers", "cpu_us", "two-workers", two_workers, Ability.TWO_WORKERS),
    Case(
        "resumed-two-workers",
        "resumed by any of two workers",
        "resumed_percent",
        "resumed",
        partial(handshakes, offer=Offer(resume=True), wanted=Wanted(workers=2)),
        Ability.TWO_WORKERS,
    ),
    Case(
        "passthrough",
        "connection passed through by its server name",
        "cpu_us",
        "passthrough",
        partial(handshakes, offer=Offer(), wanted=Wanted(passthrough=True)),
        Ability.PASSTHROUGH,
    ),
]
