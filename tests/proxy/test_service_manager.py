from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.service_manager import ServiceManager


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(sock: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(sock.recv(4096).decode())
        except BlockingIOError:
            return found


def test_what_is_so_is_told_once(listening: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": listening.getsockname()})
    manager.tell("starting", "waiting")
    manager.tell("ready", "2 workers")
    manager.tell("ready", "2 workers")
    manager.tell("reloading", "soon")
    manager.tell("stopping", "bye")
    first, ready, reloading, stopping = heard(listening)
    assert (first, ready, stopping) == (
        "STATUS=waiting\n",
        "STATUS=2 workers\nREADY=1",
        "STATUS=bye\nSTOPPING=1",
    )
    assert reloading.startswith("STATUS=soon\nRELOADING=1\nMONOTONIC_USEC=")
    assert manager.due() is None
    manager.leave()


def test_signs_of_life_are_given_at_half_the_time_allowed(listening: socket.socket) -> None:
    environment = {
        "NOTIFY_SOCKET": listening.getsockname(),
        "WATCHDOG_USEC": "4000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    manager = ServiceManager(environment)
    for now in (100.0, 101.0, 102.0, 102.5):
        manager.live(now)
    assert heard(listening) == ["WATCHDOG=1"] * 2
    assert manager.due() == 104.0
    manager.leave()
    other = ServiceManager({**environment, "WATCHDOG_PID": "1"})
    assert other.due() is None
    other.leave()


def test_a_name_without_a_file_is_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0snigate-test-{os.getpid()}")
        sock.setblocking(False)
        manager = ServiceManager({"NOTIFY_SOCKET": f"@snigate-test-{os.getpid()}"})
        manager.tell("ready", "x")
        manager.leave()
        assert heard(sock) == ["STATUS=x\nREADY=1"]


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "nonsense"}, {"NOTIFY_SOCKET": "/nowhere"}]
)
def test_where_nobody_listens_nothing_happens(environment: dict[str, str]) -> None:
    manager = ServiceManager({**environment, "WATCHDOG_USEC": "x"})
    manager.tell("ready", "x")
    manager.live(1.0)
    manager.leave()
    manager.tell("stopping", "x")
