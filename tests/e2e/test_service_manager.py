"""What systemd is told of a running snigate."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.snigate import Snigate, wait_for

TEXT = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'


def test_systemd_is_told_of_readiness_reloads_signs_of_life_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)

        def has_come(text: str) -> bool:
            while True:
                try:
                    heard.append(sock.recv(4096).decode())
                except BlockingIOError:
                    return any(text in one for one in heard)

        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        with Snigate(tmp_path, TEXT, workers=2) as snigate:
            wait_for(lambda: has_come("STATUS=2 workers of generation 1 accept\nREADY=1"), "systemd knows it is ready")
            assert snigate.reload()[0] == 0
            wait_for(lambda: has_come("workers of generation 2 accept\nREADY=1"), "and ready again")
            assert any("RELOADING=1\nMONOTONIC_USEC=" in one for one in heard)
            wait_for(lambda: heard.count("WATCHDOG=1") >= 2 or has_come("nothing"), "signs of life come")
        assert has_come("STOPPING=1")
