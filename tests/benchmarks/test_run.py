"""Tiny loads against snigate alone: that everything works, not how fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import process_tree
from benchmarks.cases.every import CASES
from benchmarks.effort import Effort
from benchmarks.figures import FIGURES
from benchmarks.measure import Sample
from benchmarks.peers.every import PEERS
from benchmarks.peers.peer import Peer, Site
from benchmarks.results import Results
from benchmarks.run import run
from benchmarks.stage import Stage, Wanted
from tests.support.servers import needs

TINY = Effort(
    handshakes=20,
    in_flight=4,
    transfers=1,
    requests=50,
    request_connections=5,
    idle=10,
    idle_measured=10,
    swap_certificates=20,
    swap_before=0.3,
    swap_after=0.3,
    swap_rate=50.0,
    quiet=0.1,
)
SNIGATE = PEERS["snigate"]
PLAYED = (
    *("ecdsa", "ecdsa-tls12", "hybrid", "resumed", "two-workers", "resumed-two-workers"),
    *("passthrough", "keep-alive", "idle", "start-1", "swap"),
)


def ignored(_: object) -> None:
    """Nothing is done with it."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    for program in ("nginx", "h2load"):
        needs(program)
    with Stage(tmp_path_factory.mktemp("stage"), TINY) as made:
        yield made


def played(stage: Stage, name: str, peer: Peer = SNIGATE) -> Results:
    return run(stage, [CASES[name]], [peer], 2, ignored, ignored)


@pytest.fixture(scope="module")
def samples(stage: Stage) -> dict[str, Sample]:
    """One of each case, on servers that go on."""
    return {name: CASES[name].run(stage, SNIGATE) for name in PLAYED}


@pytest.mark.parametrize("name", PLAYED)
def test_a_case_ends_with_its_figure(samples: dict[str, Sample], name: str) -> None:
    assert CASES[name].figure in samples[name]
    assert set(samples[name]) <= set(FIGURES)


@pytest.mark.parametrize("name", ["resumed", "resumed-two-workers"])
def test_every_handshake_of_the_cases_for_resumption_is_resumed(samples: dict[str, Sample], name: str) -> None:
    assert samples[name]["resumed_percent"] == 100.0


def test_no_connection_fails_while_a_certificate_is_swapped(samples: dict[str, Sample]) -> None:
    assert samples["swap"]["failed"] == 0.0


def test_a_run_has_a_sample_for_each_round_with_versions_and_what_was_negotiated(stage: Stage) -> None:
    found = played(stage, "ecdsa")
    assert found.cases[0].peers["snigate"].note is None
    assert [CASES["ecdsa"].figure in sample for sample in found.cases[0].peers["snigate"].samples] == [True, True]
    assert found.negotiated == {"snigate": "TLSv1.3 TLS_AES_128_GCM_SHA256 x25519"}
    assert found.versions == {"snigate": SNIGATE.version}


def test_a_peer_that_is_not_installed_is_left_out_in_one_sentence(stage: Stage) -> None:
    found = played(stage, "ecdsa", Peer("other", "no-such-server", (), lambda site: []))
    assert found.absent == {"other": "no-such-server is not installed"}
    assert found.cases[0].peers == {}


def test_a_peer_that_does_not_start_is_left_out_with_what_it_said(stage: Stage) -> None:
    def refuses(site: Site) -> list[str]:
        return ["sh", "-c", "echo the port is taken; exit 1"]

    found = played(stage, "ecdsa", Peer("other", "sh", (), refuses))
    assert found.absent == {"other": "other ended at once: the port is taken"}


def test_a_server_ends_with_its_case(stage: Stage) -> None:
    running = stage.running(SNIGATE, Wanted())
    pids = list(process_tree.pids(running.pid))
    assert len(pids) == 4
    stage.clear()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
