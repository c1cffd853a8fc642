"""One certificate of many is swapped under load: what clients of other names notice, and when the new one is served."""

from __future__ import annotations

import threading
import time

from cryptography.x509 import Certificate
from OpenSSL import SSL

from benchmarks.cases.case import Case, NotAbleError
from benchmarks.certificates import name_of, replace
from benchmarks.client import Offer
from benchmarks.connections import Load, probe
from benchmarks.measure import Sample, percentile
from benchmarks.peers.peer import Ability, Peer
from benchmarks.server import Running
from benchmarks.stage import Stage, Wanted, target

_PAUSE = 0.05
_IN_FLIGHT = 4000  # far more than there will be: a pause must not keep others from beginning


class _Swap(threading.Thread):
    """Asks for a certificate all the time, replaces it after a while, and sees when the new one is served."""

    def __init__(self, stage: Stage, running: Running, number: int) -> None:
        super().__init__(daemon=True)
        self.began = self.served = float("nan")
        self.problem: str | None = None
        self.done = threading.Event()
        self._effort = stage.effort
        self._authority = stage.authorities[stage.effort.swap_certificates]
        self._running = running
        self._number = number

    def run(self) -> None:
        """Once the load has gone on for a while."""
        try:
            self._ask(None, self._effort.swap_before)
            self._swap()
        except (OSError, RuntimeError) as error:
            self.problem = str(error)
        finally:
            self.done.set()

    def _swap(self) -> None:
        site = self._running.site
        self.began = time.perf_counter()
        new = replace(site.certificates, self._number, self._authority)
        if self._running.peer.take is not None:
            self._running.peer.take(site, self._running.pid, site.certificates / f"{name_of(self._number)}.pem")
        if not self._ask(new.certificate, self._effort.swap_patience):
            raise RuntimeError(f"the new certificate was not served within {self._effort.swap_patience:g} s")
        self.served = time.perf_counter()
        self._ask(None, self.began + self._effort.swap_after - self.served)

    def _ask(self, wanted: Certificate | None, patience: float) -> bool:
        """Ask until it is served, or for this many seconds; whether it is."""
        until = time.perf_counter() + patience
        while time.perf_counter() < until:
            try:
                served = probe(target(self._running, name_of(self._number)), Offer()).tls.get_peer_certificate()
            except (OSError, SSL.Error):
                served = None
            if served is not None and served.to_cryptography() == wanted:
                return True
            time.sleep(_PAUSE)
        return False


def swap(stage: Stage, peer: Peer) -> Sample:
    """Handshakes for another name, begun when they are due, before and during a swap."""
    effort = stage.effort
    running = stage.running(peer, Wanted(count=effort.swap_certificates, replaced=True))
    swapping = _Swap(stage, running, number=1)
    swapping.start()

    def due(begun: int, elapsed: float) -> float | None:
        return None if swapping.done.is_set() else max(0.0, begun / effort.swap_rate - elapsed)

    outcome = Load(target(running, name_of(0)), Offer(), _IN_FLIGHT).run(due)
    if swapping.problem is not None:
        raise NotAbleError(swapping.problem)
    taken = list(zip(outcome.started, outcome.latencies, strict=True))
    before = [seconds for began, seconds in taken if began + seconds < swapping.began]
    during = [seconds for began, seconds in taken if began + seconds >= swapping.began]
    return {
        "p99_during_ms": percentile(during, 99) * 1e3,
        "p99_before_ms": percentile(before, 99) * 1e3,
        "worst_ms": max(during, default=float("nan")) * 1e3,
        "served_s": swapping.served - swapping.began,
        "failed": float(len(outcome.failures)),
    }


CASES = [
    Case(
        "swap",
        "one of 10,000 certificates swapped under load",
        "p99_during_ms",
        "certificates",
        swap,
        Ability.SWAP,
        most_rounds=3,
    )
]
