"""A server that runs: started on its cores, waited for, and stopped by its pid whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import process_tree
from benchmarks.cores import pinned
from benchmarks.peers.peer import Peer, Site

START_PATIENCE = 30.0  # seconds
STOP_PATIENCE = 10.0


class StartError(Exception):
    """The server ended, or was not ready in time; says why in one sentence."""


@dataclass(frozen=True)
class Running:
    """A server that serves a site."""

    peer: Peer
    site: Site
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used so far."""
        return process_tree.cpu(self.pid)


@contextmanager
def serving(peer: Peer, site: Site, cores: set[int], patience: float = START_PATIENCE) -> Iterator[Running]:
    """Run a peer until the block ends; it accepts when the block begins."""
    site.directory.mkdir(parents=True)
    log = site.directory / "output.log"
    with listening(peer.name, peer.command(site), cores, site.port, log, patience) as pid:
        yield Running(peer, site, pid)


@contextmanager
def listening(
    name: str, command: list[str], cores: set[int], port: int, log: Path, patience: float = START_PATIENCE
) -> Iterator[int]:
    """Run a command until the block ends; yields its pid when its port accepts."""
    with log.open("wb") as output, subprocess.Popen(pinned(cores, command), stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + patience
            while not _accepts(port):
                if process.poll() is not None:
                    raise StartError(f"{name} ended at once: {_last_line(log)}")
                if time.monotonic() > deadline:
                    raise StartError(f"{name} did not accept within {patience:g} s")
                time.sleep(0.005)
            yield process.pid
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    below = list(process_tree.pids(process.pid))
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
