"""What only the whole program shows: its standard streams."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.snigate import PROGRAM


@pytest.mark.parametrize("arguments", ["check", "check --json", "certs list", "--version", "check --help"])
def test_a_full_disk_behind_standard_output_is_one_sentence(tmp_path: Path, arguments: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [PROGRAM, *arguments.split()], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "standard output cannot be written (No space left on device)\n"


@pytest.mark.parametrize(("closed", "status"), [(">&-", 0), (">&- 2>&- <&-", 0), ("--config none 2>&-", 1)])
def test_closed_standard_streams_change_nothing(tmp_path: Path, closed: str, status: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{PROGRAM} check {closed}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert done.stderr == ""
