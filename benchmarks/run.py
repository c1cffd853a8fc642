"""A run: every case with every peer, in rounds that take turns, so that what disturbs disturbs all of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from OpenSSL import SSL

from benchmarks import client
from benchmarks.cases.case import Case, NotAbleError
from benchmarks.client import Offer
from benchmarks.connections import probe
from benchmarks.machine import commit, machine
from benchmarks.peers.peer import Peer
from benchmarks.results import CaseResult, PeerResult, Results
from benchmarks.server import StartError
from benchmarks.stage import Stage, Wanted, target

Say = Callable[[str], None]
Keep = Callable[[Results], None]  # is given what there is after each case


def run(stage: Stage, cases: Sequence[Case], peers: Sequence[Peer], rounds: int, say: Say, keep: Keep) -> Results:
    """Everything that was asked for; a peer that is missing or does not start is left out."""
    results = Results(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        machine=machine(),
        rounds=rounds,
        versions={},
        negotiated={},
        absent={},
        cases=[],
    )
    present = [peer for peer in peers if _is_present(stage, peer, results)]
    for case in cases:
        say(f"{case.name}: {case.title}")
        began = time.monotonic()
        results.cases.append(_played(stage, case, present, rounds, say))
        say(f"  {time.monotonic() - began:.0f} s")
        keep(results)
    return results


def _is_present(stage: Stage, peer: Peer, results: Results) -> bool:
    """Try it once, and note what it negotiates."""
    if peer.path is None:
        results.absent[peer.name] = f"{peer.program} is not installed"
        return False
    try:
        with stage.fresh(peer, Wanted()) as running:
            results.negotiated[peer.name] = str(client.negotiated(probe(target(running), Offer()).tls))
    except (StartError, OSError, SSL.Error) as error:
        results.absent[peer.name] = str(error) or repr(error)
        return False
    results.versions[peer.name] = peer.version
    return True


def _played(stage: Stage, case: Case, peers: Sequence[Peer], rounds: int, say: Say) -> CaseResult:
    result = CaseResult(name=case.name, title=case.title, figure=case.figure, chart=case.chart)
    for peer in peers:
        if case.alone and peer.name != "snigate":
            continue
        lacks = case.needs is not None and case.needs not in peer.abilities
        result.peers[peer.name] = PeerResult(note=f"it has no {case.needs.value}" if lacks and case.needs else None)
    try:
        rounds = min(rounds, case.most_rounds or rounds)
        for number in range(rounds):
            say(f"  round {number + 1} of {rounds}")
            for peer in peers:
                if peer.name in result.peers and result.peers[peer.name].note is None:
                    _take_turn(stage, case, peer, result.peers[peer.name])
    finally:
        stage.clear()
    return result


def _take_turn(stage: Stage, case: Case, peer: Peer, result: PeerResult) -> None:
    try:
        result.samples.append(case.run(stage, peer))
    except (StartError, NotAbleError, OSError, RuntimeError, SSL.Error, subprocess.SubprocessError) as error:
        result.note = " ".join((str(error) or repr(error)).split())
