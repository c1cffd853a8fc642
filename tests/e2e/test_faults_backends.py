"""Backends fail under load: another server is used where there is one, and what is lost is counted for what it was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.test_backend_servers import configuration
from tests.support.echo import EchoServer
from tests.support.load import Load
from tests.support.moody import Mood, MoodyServer
from tests.support.snigate import Snigate, wait_for
from tests.support.standing import unchanged

QUIET = "[log]\naccess = false\n"
PAIR = 'client_address = "none"\nbalance = "round-robin"'
FLAPS = 20
FLAP = 0.1  # seconds in each mood


def ended(snigate: Snigate, outcome: str) -> int:
    return int(snigate.metric("snigate_connections_total", outcome=outcome))


def all_ended(snigate: Snigate) -> int:
    return int(snigate.metric("snigate_connections_total"))


def assert_counted(snigate: Snigate, before: int, load: Load, outcome: str) -> None:
    """Since there were `before`, what was lost has ended so, and all else was served."""
    wait_for(lambda: all_ended(snigate) - before == load.served + len(load.losses), "every connection is counted")
    assert ended(snigate, outcome) == len(load.losses)
    assert all_ended(snigate) == ended(snigate, "served") + len(load.losses)


def test_while_a_server_comes_and_goes_several_times_a_second_the_other_serves(tmp_path: Path) -> None:
    with EchoServer() as steady, MoodyServer() as flapping:
        servers = (f"127.0.0.1:{flapping.port}", f"127.0.0.1:{steady.port}")
        with Snigate(tmp_path, configuration(*servers, keys=PAIR) + QUIET) as snigate:
            before = all_ended(snigate)
            with unchanged(snigate), Load(snigate.port) as load:
                for _ in range(FLAPS // 2):
                    flapping.be(Mood.ECHOES)
                    time.sleep(FLAP)
                    flapping.be(Mood.IS_DOWN)
                    time.sleep(FLAP)
                flapping.be(Mood.ECHOES)
                met = flapping.accepted
                wait_for(lambda: flapping.accepted > met + 20, "it is used again")
                wait_for(lambda: snigate.metric("snigate_backend_up", server=servers[0]) == 1, "by every worker")
            assert_counted(snigate, before, load, "reset_by_backend")  # who was connected, and not accepted yet
            assert snigate.log.count("cannot be reached") == snigate.log.count("can be reached again")


@pytest.mark.parametrize("mood", [Mood.RESETS, Mood.BREAKS_OFF])
def test_a_server_that_resets_loses_what_it_took_and_the_other_and_later_ones_are_served(
    tmp_path: Path, mood: Mood
) -> None:
    with EchoServer() as steady, MoodyServer() as moody:
        moody.be(Mood.ECHOES)
        servers = (f"127.0.0.1:{moody.port}", f"127.0.0.1:{steady.port}")
        with Snigate(tmp_path, configuration(*servers, keys=PAIR) + QUIET) as snigate:
            before = all_ended(snigate)
            with unchanged(snigate), Load(snigate.port) as load:
                since = time.time()
                moody.be(mood)
                load.more(100)
                wait_for(lambda: load.losses, "it has taken some")
                moody.be(Mood.ECHOES)
                until = time.time()
                met = moody.accepted
                wait_for(lambda: moody.accepted > met + 20, "it is used")
                load.more()
            assert load.lost_outside(since, until) == []
            assert_counted(snigate, before, load, "reset_by_backend")


def test_without_another_server_all_are_turned_away_while_it_is_down_and_none_when_it_is_back(tmp_path: Path) -> None:
    with MoodyServer() as only:
        only.be(Mood.ECHOES)
        with Snigate(tmp_path, configuration(f"127.0.0.1:{only.port}") + QUIET) as snigate:
            before = all_ended(snigate)
            with unchanged(snigate), Load(snigate.port) as load:
                for _ in range(3):
                    known = len(load.losses)
                    since = time.time()
                    only.be(Mood.IS_DOWN)
                    wait_for(lambda seen=known: len(load.losses) > seen + 20, "some are turned away")
                    only.be(Mood.ECHOES)
                    until = time.time()
                    load.more()
                    assert load.lost_outside(since, until) == load.losses[:known]
            wait_for(lambda: all_ended(snigate) - before == load.served + len(load.losses), "all are counted")
            assert ended(snigate, "backend_unreachable") + ended(snigate, "reset_by_backend") == len(load.losses)
            assert ended(snigate, "backend_unreachable") > 50
