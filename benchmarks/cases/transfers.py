"""Bulk and requests on connections that are open: curl and h2load, which cost less than any server here."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path

from benchmarks.backend import MEGABYTES
from benchmarks.cases.case import Case
from benchmarks.certificates import NAME
from benchmarks.client import CIPHERSUITES
from benchmarks.measure import Sample, latencies, metered
from benchmarks.peers.peer import Ability, Peer
from benchmarks.stage import Stage, Wanted

_PATIENCE = 120.0  # seconds
_CIPHER = CIPHERSUITES.decode()


def transfer(stage: Stage, peer: Peer, *, up: bool, wanted: Wanted = Wanted()) -> Sample:  # noqa: B008
    """Some files of 100 MiB, a few at the same time."""
    running = stage.running(peer, wanted)
    count = stage.effort.transfers
    address = f"https://{NAME}:{running.site.port}/{'upload' if up else '100m'}"
    one = ["-o", "/dev/null", *(["-T", str(stage.upload)] if up else []), address]
    command = ["curl", "--silent", "--show-error", "--fail", "--insecure", "--parallel", "--parallel-immediate"]
    command += [
        "--resolve",
        f"{NAME}:{running.site.port}:127.0.0.1",
        "--parallel-max",
        str(stage.effort.transfers_in_flight),
    ]
    command += ["--tls13-ciphers", _CIPHER, "--curves", "X25519", "--header", "Expect:", *one * count]
    with metered(running) as meter:
        began = time.perf_counter()
        _call(command)
        seconds = time.perf_counter() - began
    gigabytes = count * MEGABYTES / 1000 * 1.048576
    return {
        "cpu_s_per_gb": meter.cpu / gigabytes,
        "mb_per_s": gigabytes * 1000 / seconds,
        "busy_percent": 100 * meter.cpu / seconds,
        "peak_mb": meter.peak / 1e6,
    }


def requests(stage: Stage, peer: Peer) -> Sample:
    """Requests of 10 KB on connections that are kept alive."""
    running, count = stage.running(peer, Wanted()), stage.effort.requests
    log = running.site.directory / "requests.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "--h1", "--threads=1", f"--requests={count}", f"--clients={stage.effort.request_connections}"]
    command += [f"--log-file={log}", "--groups=X25519", f"--tls13-ciphers={_CIPHER}"]
    command += [f"--connect-to=127.0.0.1:{running.site.port}", f"https://{NAME}/10k"]
    with metered(running) as meter:
        began = time.perf_counter()
        _call(command)
        seconds = time.perf_counter() - began
    taken = _answered(log)
    if len(taken) != count:
        raise RuntimeError(f"{len(taken)} of {count} requests were answered")
    return {
        "cpu_us": meter.cpu / count * 1e6,
        "rate": count / seconds,
        **latencies(taken),
        "busy_percent": 100 * meter.cpu / seconds,
        "peak_mb": meter.peak / 1e6,
    }


def _answered(log: Path) -> list[float]:
    """Seconds that each good answer took, from lines of start, status and microseconds."""
    rows = (line.split() for line in log.read_text().splitlines())
    return [int(row[2]) / 1e6 for row in rows if row[1] == "200"]


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {_complaint(done.stderr)}")


def _complaint(text: str) -> str:
    """The last line that says something, not the progress."""
    lines = (
        [line for line in text.splitlines() if line.startswith("curl: ")] or text.splitlines() or ["it said nothing"]
    )
    return lines[-1]


CASES = [
    Case("download", "100 MiB download, four at a time", "cpu_s_per_gb", "transfers", partial(transfer, up=False)),
    Case("upload", "100 MiB upload, four at a time", "cpu_s_per_gb", "transfers", partial(transfer, up=True)),
    Case("keep-alive", "10 KB request, 32 connections kept alive", "cpu_us", "transfers", requests),
    Case(
        "passthrough-download",
        "100 MiB download passed through, four at a time",
        "cpu_s_per_gb",
        "transfers",
        partial(transfer, up=False, wanted=Wanted(passthrough=True)),
        Ability.PASSTHROUGH,
    ),
]
