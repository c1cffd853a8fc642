"""A place to run commands in, and a view of a server without the server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from admin.cli import app
from admin.reading import Reading, read
from admin.view import View
from certstore.messages import Change, FileProblem, ReplicaState, Report
from certstore.replica import Replica
from config.load import load
from config.model import Config
from proxy.channel import Message
from tests.support.pki import Authority, Pair

MAIN = """
[certificates]
directories = ["certs"]
trust = ["root.pem"]
{certificates}
[[listeners]]
name = "web"
bind = ["127.0.0.1:8443"]
alpn = ["h2", "http/1.1"]
backend = "127.0.0.1:8000"
{listener}
"""


@pytest.fixture(autouse=True)
def _rights_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `serve` that runs inside a test would give up rights for all tests after it."""
    monkeypatch.setattr("admin.serve.supervise_only", lambda _: None)


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """Commands that run inside a test leave their log's handler behind, which writes to what is closed by then."""
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if not type(one).__module__.startswith("_pytest")]:
        root.removeHandler(handler)


@dataclass
class Place:
    """A directory with a configuration, a trusted root, and certificates in certs/."""

    path: Path
    root: Authority
    runner: CliRunner = field(default_factory=CliRunner)

    def configure(self, certificates: str = "", listener: str = "", text: str | None = None) -> Path:
        """Write snigate.toml."""
        file = self.path / "snigate.toml"
        file.write_text(MAIN.format(certificates=certificates, listener=listener) if text is None else text)
        return file

    def add(self, pair: Pair, stem: str) -> Pair:
        """Put a pair into certs/."""
        pair.write(self.path / "certs", stem)
        return pair

    def run(self, *arguments: str) -> Result:
        """Run a command with this configuration."""
        return self.runner.invoke(app, [*arguments, "--config", str(self.path / "snigate.toml")])

    @property
    def config(self) -> Config:
        return load(self.path / "snigate.toml")

    def read(self) -> Reading:
        return read(self.config)

    def files(self) -> set[str]:
        return {str(one.relative_to(self.path)) for one in self.path.rglob("*")}


@pytest.fixture(scope="session")
def root() -> Authority:
    return Authority.make()


@pytest.fixture
def place(tmp_path: Path, root: Authority) -> Place:
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "certs").mkdir()
    found = Place(tmp_path, root)
    found.configure()
    return found


MakeView = Callable[[], View]


@pytest.fixture
def make_view(place: Place) -> MakeView:
    """A view of what the place's directories hold."""

    def make() -> View:
        reading = place.read()
        replica = Replica(place.config.certificates.order)
        snapshot = reading.snapshot
        change = Change(1, True, True, list(snapshot.certificates.values()), [], snapshot.default_name, snapshot.made)
        asyncio.run(replica.take_in(change))
        replica.report = make_report(snapshot_problems(reading), sorted(snapshot.waiting))
        view = View(place.config, replica, {"web": ["127.0.0.1:8443"]}, {"admin": "127.0.0.1:9180"}, time.time() - 60)
        view.hear(said())
        return view

    return make


def snapshot_problems(reading: Reading) -> list[FileProblem]:
    return [FileProblem(*one) for one in reading.problems]


def make_report(problems: list[FileProblem], waiting: list[str]) -> Report:
    return Report(
        change=1,
        scanned_at=1_700_000_000.0,
        swapped_at=1_600_000_000.0,
        swaps={"applied": 3, "rejected": 1},
        problems=problems,
        waiting=waiting,
        unverified=0,
        watching=True,
        replicas=[ReplicaState(0, 4711, 1, 2, "00ff")],
    )


def said(*, draining: bool = False, workers: int = 2, restarts: int = 0) -> Message:
    """What the supervisor tells control: of the second generation, and of one worker left of the first."""
    processes = [
        _process("keeper", 0, 1, 1, "ready"),
        _process("worker", 0, 2, 4711, "ready" if workers > 0 else "starting"),
        _process("worker", 1, 2, 4712, "ready") if workers > 1 else _process("worker", 1, 2, None, "down"),
        _process("worker", 2, 1, 4713, "draining"),
    ]
    return {
        "draining": draining,
        "worker_restarts": restarts,
        "generation": 2,
        "reloads": {"applied": 4, "rejected": 5},
        "processes": processes,
    }


def _process(role: str, number: int, generation: int, pid: int | None, state: str) -> Message:
    return {
        "role": role,
        "number": number,
        "generation": generation,
        "pid": pid,
        "state": state,
        "ready": state == "ready",
        "seconds": 5.0 if pid is not None else None,
    }
