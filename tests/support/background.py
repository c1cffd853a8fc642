"""The short soak, which runs beside the other tests from the session's start, at little load."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.snigate import PATIENCE

SECONDS = float(os.environ.get("SNIGATE_SOAK_SECONDS", "120"))
RATE = 8  # connections a second
ENDING = 90.0  # seconds that it may take beyond its time: to start, to wait for the last ones, to look at everything


def is_soak(item: pytest.Item) -> bool:
    """Whether a test is the one that judges it."""
    return "background" in getattr(item, "fixturenames", ())


class Background:
    """Begins at once. What it says goes into a file, so that it never waits for anybody to read it."""

    KEY: ClassVar[pytest.StashKey[Background]] = pytest.StashKey()

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives the call
        command = [sys.executable, "-m", "soak", "--seconds", f"{SECONDS:g}", "--rate", f"{RATE}"]
        command += ["--sample-every", "4", "--ignore-timing"]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, cwd=root, stdout=self._said, stderr=subprocess.STDOUT)

    def finished(self) -> tuple[int, str]:
        """Wait for its end: its exit status, and all that it has said."""
        status = self._process.wait(SECONDS + ENDING)
        self._said.seek(0)
        return status, self._said.read().decode()

    def stop(self) -> None:
        """End it, where it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._said.close()
