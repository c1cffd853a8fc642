"""Memory that an idle connection takes: all the server's processes with many of them, less what they took without."""

from __future__ import annotations

import time
from functools import partial

from benchmarks import process_tree
from benchmarks.cases.case import Case
from benchmarks.client import Offer
from benchmarks.connections import Load, hold
from benchmarks.measure import SETTLE, Sample
from benchmarks.peers.peer import Ability, Peer
from benchmarks.stage import Stage, Wanted, target


def idle(stage: Stage, peer: Peer, *, offer: Offer) -> Sample:
    """A server of its own; a few connections before, so that what the first ones bring is not counted."""
    count = stage.effort.idle_measured
    with stage.fresh(peer, Wanted()) as running:
        stage.settle(running)
        Load(target(running), offer).count(100)
        time.sleep(SETTLE)
        before = sum(process_tree.memory(running.pid).values())
        held = hold(target(running), offer, count)
        time.sleep(SETTLE)
        after = sum(process_tree.memory(running.pid).values())
        for one in held:
            one.close()
    return {"kb_per_connection": (after - before) / count / 1000, "peak_mb": after / 1e6}


_HYBRID = Offer(group="X25519MLKEM768")
CASES = [
    Case("idle", "idle connection, X25519", "kb_per_connection", "memory", partial(idle, offer=Offer())),
    Case(
        "idle-hybrid",
        "idle connection, X25519MLKEM768",
        "kb_per_connection",
        "memory",
        partial(idle, offer=_HYBRID),
        Ability.HYBRID_KEY_EXCHANGE,
    ),
]
