"""A start with many certificates: how long until the last name is served with its own, and what it takes in all."""

from __future__ import annotations

import time
from functools import partial

from OpenSSL import SSL

from benchmarks import process_tree
from benchmarks.cases.case import Case, NotAbleError
from benchmarks.certificates import NAME, name_of
from benchmarks.client import Offer
from benchmarks.connections import probe
from benchmarks.measure import Sample
from benchmarks.peers.peer import Ability, Peer
from benchmarks.server import Running, StartError
from benchmarks.stage import Stage, Wanted, target


def start(stage: Stage, peer: Peer, *, count: int, workers: int) -> Sample:
    """One start; the files have been read before, by the round before or by who wrote them."""
    wanted, patience = Wanted(count=count, workers=workers), stage.effort.start_patience
    stage.certificates(wanted)
    began = time.monotonic()
    try:
        with stage.fresh(peer, wanted, patience) as running:
            _serves(running, name_of(count - 1) if count > 1 else NAME, began + patience)
            ready = time.monotonic() - began
            stage.settle(running)
            rests = time.monotonic() - began - stage.effort.quiet
            memory, used = process_tree.memory(running.pid).values(), running.cpu()
    except (StartError, TimeoutError) as error:
        if time.monotonic() - began >= patience:
            raise NotAbleError(f"over {patience:g} s") from error
        raise
    return {
        "ready_s": ready,
        "settled_s": max(ready, rests),
        "cpu_s": used,
        "memory_mb": sum(memory) / 1e6,
        "largest_mb": max(memory) / 1e6,
    }


def _serves(running: Running, name: str, deadline: float) -> None:
    """Wait until clients that ask for the name are shown its certificate."""
    while time.monotonic() < deadline:
        try:
            shown = probe(target(running, name), Offer()).tls.get_peer_certificate(as_cryptography=True)
        except (OSError, SSL.Error):
            shown = None
        if shown is not None and name in shown.subject.rfc4514_string():
            return
        time.sleep(0.005)
    raise TimeoutError(f"{name} is not served")


def _case(count: int, *, alone: bool = False, rounds: int | None = None, workers: int = 1) -> Case:
    title = f"start with {count:,} certificate{'s' if count > 1 else ''}"
    needs = Ability.MANY_CERTIFICATES if count > 1 else None
    play = partial(start, count=count, workers=workers)
    return Case(f"start-{count}", title, "ready_s", "certificates", play, needs, alone, rounds)


CASES = [_case(1), _case(1_000), _case(10_000, rounds=3), _case(100_000, alone=True, rounds=3, workers=2)]
