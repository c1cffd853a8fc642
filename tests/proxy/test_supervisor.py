"""The supervisor with children of the test's own (see tests.support.supervised)."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from proxy.supervisor import ONE_REQUEST
from tests.support.snigate import wait_for
from tests.support.supervising import CHILDREN, Supervised, alive

THIRD = "worker 0 ended with status 0; it is started again in 0.4 s (3 deaths, each soon after a start)"


def test_readiness_is_announced_once_with_what_the_keeper_said(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        assert one.process.stdout is not None
        announced = one.process.stdout.readline()
        one.signal(signal.SIGTERM)
        assert one.process.wait(10) == 0
        lines = one.process.stdout.read().splitlines()
    assert [json.loads(line) for line in (announced, *lines)] == [{"ready": True, "who": "keeper0"}]


@pytest.mark.parametrize("name", CHILDREN)
def test_a_child_that_is_killed_is_replaced_and_the_others_stay(tmp_path: Path, name: str) -> None:
    with Supervised(tmp_path) as one:
        wait_for(lambda: one.pid("worker0"), "the other worker runs")
        before = {child: one.pid(child) for child in CHILDREN}
        os.kill(before[name], signal.SIGKILL)
        wait_for(lambda: one.pid(name) not in (0, before[name]), "the next one runs")
        assert {child for child in CHILDREN if one.pid(child) != before[child]} == {name}
        assert "was killed by signal 9; it is started again" in one.log


def test_control_is_told_of_every_process_and_counts_the_restarts_of_workers(tmp_path: Path) -> None:
    def all_ready() -> bool:
        told = one.told()
        return bool(told) and all(process["ready"] for process in told[-1]["processes"])

    with Supervised(tmp_path) as one:
        wait_for(all_ready, "all are ready")
        assert sorted((process["role"], process["number"]) for process in one.told()[-1]["processes"]) == [
            ("control", 0),
            ("keeper", 0),
            ("worker", 0),
            ("worker", 1),
        ]
        assert one.told()[-1]["worker_restarts"] == 0
        os.kill(one.pid("worker1"), signal.SIGKILL)
        wait_for(lambda: one.told()[-1]["worker_restarts"] == 1 and all_ready(), "the restart is told")
        assert one.told()[-1]["draining"] is False
        assert any(process["pid"] is None for message in one.told() for process in message["processes"])


def test_a_stop_drains_the_workers_and_then_ends_the_others_with_status_0(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.signal(signal.SIGTERM)
        assert one.process.wait(10) == 0
        assert one.told()[-1]["draining"] is True
        assert "stopping: no new connections" in one.log


def test_a_worker_that_does_not_drain_in_time_is_killed(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="stubborn") as one:
        one.signal(signal.SIGINT)
        assert one.process.wait(20) == 0


def test_told_to_stop_again_it_does_not_wait_for_connections(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="stubborn", drain=3600) as one:
        one.signal(signal.SIGTERM)
        one.signal(signal.SIGTERM)  # the same request: a shell signals the whole group
        time.sleep(ONE_REQUEST + 0.2)
        assert one.process.poll() is None
        one.signal(signal.SIGTERM)
        assert one.process.wait(10) == 0
        assert one.log.count("told to stop again") == 1


def test_a_child_that_keeps_dying_is_started_ever_later(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="dying") as one:
        wait_for(lambda: THIRD in one.log, "a third delay")
        delays = [
            line.rpartition(" in ")[2].partition(" (")[0] for line in one.log.splitlines() if "worker 0 ended" in line
        ]
        assert delays[:3] == ["0.1 s", "0.2 s", "0.4 s"]
        assert alive(one.pid("worker1"))


def test_the_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        wait_for(lambda: one.pid("worker0"), "the other worker runs")
        one.process.kill()
        one.process.wait()
        wait_for(lambda: not any(alive(one.pid(child)) for child in CHILDREN), "children have ended")


def test_a_child_holds_its_own_sockets_and_no_other_ones(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        wait_for(lambda: one.pid("worker0"), "the other worker runs")
        first, second = json.loads((tmp_path / "listening").read_text())
        assert {first, second} & one.sockets("worker0") == {first}
        assert {first, second} & one.sockets("worker1") == {second}
        assert not {first, second} & (one.sockets("keeper0") | one.sockets("control0"))
        assert [len(one.sockets(child)) for child in CHILDREN] == [1, 1, 2, 2]  # beside those: the channel


def test_children_leave_signals_to_the_supervisor(tmp_path: Path) -> None:
    with Supervised(tmp_path, drain=60) as one:
        wait_for(lambda: one.pid("worker0"), "the other worker runs")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for child in CHILDREN:
                os.kill(one.pid(child), number)
        before = {child: one.pid(child) for child in CHILDREN}
        os.kill(before["worker0"], signal.SIGKILL)
        wait_for(lambda: one.pid("worker0") not in (0, before["worker0"]), "the supervisor goes on")
        assert all(alive(before[child]) for child in CHILDREN if child != "worker0")
        assert one.log.count("is started again") == 1
