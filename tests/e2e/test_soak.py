"""Two minutes of mixed traffic, with certificates swapped and configurations reloaded; `make soak` is the long form.

It begins before the other tests, runs at little load, and waits for most of its time. Nothing here is about time:
latencies are only reported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.snigate import PATIENCE

SECONDS = float(os.environ.get("SNIGATE_SOAK_SECONDS", "120"))
RATE = 8  # connections a second
ENDING = 90.0  # seconds that it may take beyond its time: to start, to wait for the last ones, to look at everything


@pytest.mark.begins_first
@pytest.mark.timeout(SECONDS + ENDING + 2 * PATIENCE)
def test_mixed_traffic_through_swaps_and_reloads_leaves_no_error_unexplained_and_nothing_behind() -> None:
    command = [sys.executable, "-m", "soak", "--seconds", f"{SECONDS:g}", "--rate", f"{RATE}"]
    command += ["--sample-every", "4", "--ignore-timing"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as soak:
        try:
            said, _ = soak.communicate(timeout=SECONDS + ENDING)
        finally:
            stop(soak)
    print(said)
    assert soak.returncode == 0, said


def stop(soak: subprocess.Popen[str]) -> None:
    """End it, where it still runs."""
    if soak.poll() is None:
        soak.terminate()
        try:
            soak.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            soak.kill()
