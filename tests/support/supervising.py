"""Starts tests.support.supervised as a process of its own, and watches it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.snigate import wait_for
from tests.support.supervised import Orders

CHILDREN = ("keeper0", "control0", "worker0", "worker1")
ROOT = Path(__file__).parents[2]


class Supervised:
    """The program, running; killed at the end of the block if it still runs. `orders`: see `Orders`."""

    def __init__(self, directory: Path, **orders: Any) -> None:
        self.directory = directory
        self.log_path = directory / "log"
        self.order(**orders)
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.supervised", directory],
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
        wait_for(lambda: not any(map(alive, self.pids())), "children have ended")
        assert "Traceback" not in self.log

    def order(self, **orders: Any) -> None:
        """What the next plan is to be like."""
        Orders(**orders).write(self.directory)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def pid(self, name: str) -> int:
        """The child's process; 0 while there is none yet."""
        try:
            return int((self.directory / f"{name}.pid").read_text() or 0)
        except FileNotFoundError:
            return 0

    def pids(self) -> list[int]:
        """The last process of each name."""
        return [self.pid(path.stem) for path in self.directory.glob("*.pid")]

    def sockets(self, name: str) -> set[str]:
        return set(json.loads((self.directory / f"{name}.sockets").read_text()))

    def told(self) -> list[dict[str, Any]]:
        """What control was told so far."""
        path = self.directory / "control.log"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def processes(self) -> list[tuple[str, int, int, str]]:
        """Role, number, generation and state of each process, as control was told last."""
        told = self.told()
        found = told[-1]["processes"] if told else []
        return sorted((one["role"], one["number"], one["generation"], one["state"]) for one in found)

    def workers(self) -> list[tuple[int, int, str]]:
        """Number, generation and state of each worker, as control was told last."""
        return [(number, generation, state) for role, number, generation, state in self.processes() if role == "worker"]

    def serves(self, generation: int, *numbers: int) -> None:
        """Wait until these workers of a generation accept, and there are no others."""
        wanted = [(number, generation, "ready") for number in numbers]
        wait_for(lambda: self.workers() == wanted, f"generation {generation} serves, not {self.workers()}")

    def ask(self, name: str) -> None:
        """Have control ask for a reload."""
        (self.directory / f"ask.{name}").touch()

    def answer(self, name: str) -> dict[str, Any]:
        """The outcome that control was told, once it is there."""
        path = self.directory / f"ask.{name}"
        wait_for(path.read_text, f"the answer to {name}")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def alive(pid: int) -> bool:
    try:
        return pid != 0 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
