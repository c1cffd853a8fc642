"""One certificate of many is swapped under load: what clients of other names notice, and when the new one is served."""

from __future__ import annotations

import threading
import time

from OpenSSL import SSL

from benchmarks.cases.case import Case, NotAbleError
from benchmarks.certificates import name_of, replace
from benchmarks.client import Offer
from benchmarks.connections import Load, probe
from benchmarks.measure import Sample, percentile
from benchmarks.peers.peer import Ability, Peer
from benchmarks.server import Running
from benchmarks.stage import Stage, Wanted, target

_AFTER = 2.0  # seconds from the swap that count as "during" at least
_PAUSE = 0.05


class _Swap(threading.Thread):
    """Replaces a certificate after a while, and asks until it is served."""

    def __init__(self, stage: Stage, running: Running, number: int) -> None:
        super().__init__(daemon=True)
        self.began = self.served = float("nan")
        self.problem: str | None = None
        self.done = threading.Event()
        self._stage = stage
        self._running = running
        self._number = number

    def run(self) -> None:
        """Once the load has gone on alone."""
        try:
            time.sleep(self._stage.effort.swap_before)
            self._swap()
        except (OSError, RuntimeError) as error:
            self.problem = str(error)
        finally:
            self.done.set()

    def _swap(self) -> None:
        site, count = self._running.site, self._stage.effort.swap_certificates
        self.began = time.perf_counter()
        pair = replace(site.certificates, self._number, self._stage.authorities[count])
        if self._running.peer.take is not None:
            self._running.peer.take(site, self._running.pid, site.certificates / f"{name_of(self._number)}.pem")
        while time.perf_counter() - self.began < self._stage.effort.swap_patience:
            try:
                served = probe(target(self._running, name_of(self._number)), Offer()).tls.get_peer_certificate()
            except (OSError, SSL.Error):
                served = None
            if served is not None and served.to_cryptography() == pair.certificate:
                self.served = time.perf_counter()
                time.sleep(max(0.0, self.began + _AFTER - self.served))
                return
            time.sleep(_PAUSE)
        raise RuntimeError(f"the new certificate was not served within {self._stage.effort.swap_patience:g} s")


def swap(stage: Stage, peer: Peer) -> Sample:
    """Handshakes at a steady rate for another name, before and during a swap."""
    effort = stage.effort
    running = stage.running(peer, Wanted(count=effort.swap_certificates))
    swapping = _Swap(stage, running, number=1)
    swapping.start()

    def due(begun: int, elapsed: float) -> float | None:
        return None if swapping.done.is_set() else max(0.0, begun / effort.swap_rate - elapsed)

    outcome = Load(target(running, name_of(0)), Offer(), effort.in_flight).run(due)
    if swapping.problem is not None:
        raise NotAbleError(swapping.problem)
    taken = list(zip(outcome.started, outcome.latencies, strict=True))
    before = [seconds for began, seconds in taken if began + seconds < swapping.began]
    during = [seconds for began, seconds in taken if began + seconds >= swapping.began]
    return {
        "p99_during_ms": percentile(during, 99) * 1e3,
        "p99_before_ms": percentile(before, 99) * 1e3,
        "served_s": swapping.served - swapping.began,
        "failed": float(len(outcome.failures)),
    }


CASES = [Case("swap", "one of 10,000 certificates swapped under load", "p99_during_ms", "swap", swap, Ability.SWAP)]
