"""Sockets that the service manager holds: one snigate ends and the next starts, and nobody is refused."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.snigate import PATIENCE, PROGRAM, Snigate, wait_for

WELCOME = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'


class Activated(Snigate):
    """Started as systemd starts a service with a .socket unit, whose sockets stay open between runs."""

    def __init__(self, directory: Path, configuration: str, *, workers: int = 2) -> None:
        super().__init__(directory, configuration, workers=workers)
        self.held = socket.create_server(("127.0.0.1", self.port), backlog=4096)

    def launch(self) -> subprocess.Popen[bytes]:
        """Descriptor 3, and a shell to say the right process number."""
        script = f'exec 3<&{self.held.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" serve --config "$1"'
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                ["bash", "-c", script, PROGRAM, self.file],
                cwd=self.directory,
                stderr=log,
                stdout=log,
                pass_fds=[self.held.fileno()],
            )


class Visits:
    """Whole connections, one after the other, until it is stopped."""

    def __init__(self, port: int) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(4)]

    def __enter__(self) -> Visits:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _visit(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        while not self._stop.is_set():
            try:
                with (
                    socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as plain,
                    context.wrap_socket(plain, server_hostname="www.example.com") as secured,
                ):
                    secured.sendall(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
                    assert secured.recv(12) == b"HTTP/1.1 200"
                self.done += 1
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_restart_refuses_nobody(tmp_path: Path, workers: int) -> None:
    site = Activated(tmp_path, WELCOME, workers=workers)
    with contextlib.closing(site.held), site, Visits(site.port) as visits:
        for _ in range(3):
            before = visits.done
            wait_for(lambda before=before: visits.done > before + 20, "visits go on")
            assert site.stop() == 0
            site.process = site.launch()
        before = visits.done
        wait_for(lambda: visits.done > before + 20, "visits go on")
    assert visits.failures == []


def test_it_is_kept_over_reloads_and_while_no_listener_wants_it(tmp_path: Path) -> None:
    site = Activated(tmp_path, WELCOME, workers=1)
    with contextlib.closing(site.held), site:
        text = site.file.read_text()
        for changed in (
            text.replace("workers = 1", "workers = 3"),
            text.replace(f"127.0.0.1:{site.port}", "127.0.0.1:0"),
            text,
        ):
            site.file.write_text(changed)
            status, said = site.reload()
            assert status == 0, said
        assert f"systemd holds a socket at 127.0.0.1:{site.port}, where no listener is" in site.log
        with Visits(site.port) as visits:
            wait_for(lambda: visits.done > 20, "visits go on")
        assert visits.failures == []
        site.expect_new_workers()


def test_a_socket_that_no_listener_has_is_warned_of(tmp_path: Path) -> None:
    site = Activated(tmp_path, WELCOME, workers=1)
    with contextlib.closing(site.held):
        site.file.write_text(site.file.read_text().replace(f"127.0.0.1:{site.port}", "127.0.0.1:0"))
        process = site.launch()
        try:
            wait_for(lambda: f"systemd holds a socket at 127.0.0.1:{site.port}, where no listener is" in site.log, "it")
        finally:
            os.kill(process.pid, 15)
            process.wait(PATIENCE)
