"""The supervisor with children of the test's own (see tests.support.supervised)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from proxy.supervisor import ONE_REQUEST
from tests.support.snigate import wait_for

CHILDREN = ("keeper0", "control0", "worker0", "worker1")
ROOT = Path(__file__).parents[2]


class Supervised:
    """The program, running; killed at the end of the block if it still runs."""

    def __init__(self, directory: Path, *, drain: float = 0.2, worker: str = "good") -> None:
        self.directory = directory
        self.log_path = directory / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.supervised", directory, str(drain), worker],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self) -> Supervised:
        wait_for(lambda: all(map(self.pid, CHILDREN[:2])) and self.pid("worker1"), "children run")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        wait_for(lambda: not any(map(alive, map(self.pid, CHILDREN))), "children have ended")
        assert "Traceback" not in self.log

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def pid(self, name: str) -> int:
        """The child's process; 0 while there is none yet."""
        try:
            return int((self.directory / f"{name}.pid").read_text() or 0)
        except FileNotFoundError:
            return 0

    def sockets(self, name: str) -> set[str]:
        return set(json.loads((self.directory / f"{name}.sockets").read_text()))

    def told(self) -> list[dict[str, Any]]:
        """What control was told so far."""
        path = self.directory / "control.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def alive(pid: int) -> bool:
    try:
        return pid != 0 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_readiness_is_announced_once_with_what_the_keeper_said(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        wait_for(lambda: one.pid("worker0"), "the other worker runs")
        one.signal(signal.SIGTERM)
        assert one.process.wait(10) == 0
        assert one.process.stdout is not None
        lines = one.process.stdout.read().splitlines()
    assert [json.loads(line) for line in lines] == [{"ready": True, "who": "keeper0"}]


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
        assert [(process["role"], process["number"]) for process in one.told()[-1]["processes"]] == [
            ("keeper", 0),
            ("control", 0),
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
        wait_for(lambda: "worker 0 ended with status 0; it is started again in 0.4 s" in one.log, "a third delay")
        delays = [line.rpartition(" in ")[2] for line in one.log.splitlines() if "worker 0 ended" in line]
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


def test_a_reload_is_refused_with_a_sentence_and_changes_nothing(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.signal(signal.SIGHUP)
        wait_for(lambda: "reload is not available yet" in one.log, "the sentence")
        assert all(alive(one.pid(child)) for child in ("keeper0", "control0", "worker1"))


def test_children_leave_signals_to_the_supervisor(tmp_path: Path) -> None:
    with Supervised(tmp_path, drain=60) as one:
        wait_for(lambda: one.pid("worker0"), "the other worker runs")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for child in CHILDREN:
                os.kill(one.pid(child), number)
        one.signal(signal.SIGHUP)
        wait_for(lambda: "reload" in one.log, "the supervisor answers")
        assert all(alive(one.pid(child)) for child in CHILDREN)
        assert "is started again" not in one.log
