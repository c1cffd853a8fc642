"""A real snigate, started as a user would start it, for end-to-end tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tests.support.ports import free_port
from tests.support.tls_client import shown

PROGRAM = Path(sys.executable).with_name("snigate")
PATIENCE = 30.0  # seconds that anything may take before a test gives up


class Process(NamedTuple):
    """One of snigate's processes."""

    pid: int
    open_files: int
    resident: int  # bytes


class Snigate:
    """`snigate serve` with a configuration of the test's own, in a directory of its own.

    `configuration` is TOML, with {port} for the first listener's port and {certs} for a certificate directory; tables
    that it does not mention are added: state directory, two workers, admin address. Every listener beyond the first
    takes its port from `free_port`.
    """

    def __init__(self, directory: Path, configuration: str, *, workers: int = 2, name: str | None = None) -> None:
        self.directory = directory
        self.certs = directory / "certificates"
        self.certs.mkdir(parents=True, exist_ok=True)
        self.state = directory / "state"
        self.port = free_port()
        self.admin = free_port()
        self.log_path = directory / "snigate.log"
        self.file = directory / "snigate.toml"
        self._probe = name
        self._greets = 'tls = "starttls"' in configuration.partition("[[listeners]]")[2].partition("[[listeners]]")[0]
        text = configuration.replace("{port}", str(self.port)).replace("{certs}", str(self.certs))
        if "[server]" not in text:
            text += f'\n[server]\nworkers = {workers}\nstate_directory = "{self.state}"\ndrain = "3s"\n'
        if "[admin]" not in text:
            text += f'\n[admin]\nlisten = "127.0.0.1:{self.admin}"\n'
        if "[certificates]" not in text:
            text += f'\n[certificates]\ndirectories = ["{self.certs}"]\ntrust = []\n'
        self.file.write_text(text)
        self.environment: dict[str, str] = {}  # beside the test's own
        self.under: tuple[str, ...] = ()  # a command that becomes the one that follows it
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_after = 0.0  # seconds from the last start to the first handshake
        self._open_files: dict[int, int] = {}

    def __enter__(self) -> Snigate:
        try:
            self.start()
        except BaseException:
            self.stop()
            sys.stderr.write(self.log)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._runs:
                self.settled()
        finally:
            self.stop()
            if error is not None:
                sys.stderr.write(self.log)
        assert "Traceback" not in self.log

    def settled(self) -> None:
        """Wait until no connection is open and the workers have no more files open than when they had just started."""
        wait_for(lambda: self.metric("snigate_connections_active") == 0, "no connection is open")
        most = max(self._open_files.values(), default=0)
        wait_for(
            lambda: all(one.open_files <= self._open_files.get(one.pid, most) for one in self.workers()),
            f"the workers' open files are back at {self._open_files}",
        )

    def expect_new_workers(self) -> None:
        """Workers were killed: from now on, what those that follow have open is the measure, once it stays the same."""
        self._measure()
        before: dict[int, int] = {}
        while before != self._open_files:
            before = self._open_files
            time.sleep(0.3)
            self._measure()

    def _measure(self) -> None:
        wait_for(self._is_complete, "every worker accepts, and no connection is open")
        self._open_files = {one.pid: one.open_files for one in self.workers()}

    def start(self) -> None:
        """Start, and wait until a handshake succeeds and every worker accepts."""
        started = time.monotonic()
        self.process = self.launch()
        wait_for(self._accepts, "snigate accepts")
        self.ready_after = time.monotonic() - started
        self._measure()

    def launch(self) -> subprocess.Popen[bytes]:
        """A new process."""
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*self.under, PROGRAM, "serve", "--config", self.file],
                cwd=self.directory,
                stderr=log,
                stdout=log,
                env=os.environ | self.environment,
            )

    @contextlib.contextmanager
    def on_a_terminal(self) -> Iterator[str]:
        """Started with stderr a terminal; what is written there until it is ready."""
        mine, its = pty.openpty()
        command = [str(PROGRAM), "serve", "--config", str(self.file)]
        environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
        self.process = subprocess.Popen(command, cwd=self.directory, stderr=its, stdout=its, env=environment)
        os.close(its)
        try:
            said = b""
            while "╯".encode() not in said:
                assert select.select([mine], [], [], PATIENCE)[0], said
                said += os.read(mine, 4096)
            yield said.decode()
        finally:
            self.stop()
            os.close(mine)

    def stop(self) -> int:
        """Ask it to stop, and wait; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def reload(self) -> tuple[int, str]:
        """`snigate reload`: its exit status, and all it says."""
        command = [str(PROGRAM), "reload", "--config", str(self.file)]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, timeout=300)
        return done.returncode, (done.stdout + done.stderr).decode()

    @property
    def log(self) -> str:
        """Everything it has written."""
        return self.log_path.read_text(errors="replace")

    @property
    def token(self) -> str:
        """The API's token."""
        return (self.state / "token").read_text().strip()

    def get(self, path: str, *, token: bool = True) -> tuple[int, str]:
        """Ask the admin address; status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def api(self, path: str) -> Any:
        """What an API path answers."""
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value now, the sum over every series with these labels; 0 where there is none."""
        total = 0.0
        for line in self.get("/metrics", token=False)[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                total += float(value)
        return total

    def children(self) -> list[Process]:
        """The supervisor's children now, in the order of their starts."""
        assert self.process is not None
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [_process(int(pid)) for pid in pids]

    def workers(self) -> list[Process]:
        """The workers now, in the order of their numbers."""
        found = self.api("/api/v1/status")["processes"]
        return [_process(one["pid"]) for one in found if one["role"] == "worker" and one["pid"] is not None]

    @property
    def _runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _is_complete(self) -> bool:
        status = self.api("/api/v1/status")
        states = {one["state"] for one in status["processes"] if one["role"] == "worker"}
        everybody = states == {"ready"}
        return everybody and self.metric("snigate_connections_active") == 0

    def _accepts(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"snigate ended with {self.process.returncode}:\n{self.log}"
        try:
            if self._greets:
                with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as plain:
                    return plain.recv(1) != b""
            shown(self.port, self._probe)
        except (TimeoutError, ConnectionError, OSError):
            return False
        return True


def open_files_of(pid: int) -> int:
    """How many files a process has open now."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _process(pid: int) -> Process:
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Process(pid, open_files_of(pid), resident)


def wait_for(condition: Any, what: str, patience: float = PATIENCE) -> None:
    """Wait until `condition()` is true; fail with `what` when it does not become so."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError(f"not within {patience:g} s: {what}")
