"""What only the whole program shows: its standard streams."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from admin.cli import app
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


@pytest.mark.parametrize("group", [[], ["certs"]])
def test_help_is_had_with_h_and_names_every_command_in_full(group: list[str]) -> None:
    shown = CliRunner().invoke(app, [*group, "-h"], env={"COLUMNS": "80"}).output
    assert shown == CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "80"}).output
    assert "Commands:" in shown
    assert "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("command", [["check"], ["explain"], ["certs", "list"], ["status"]])
def test_the_configuration_may_be_named_before_the_command(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "before.toml").write_text("before = 1\n")
    (tmp_path / "after.toml").write_text("after = 1\n")
    before = ["--config", str(tmp_path / "before.toml"), *command]
    assert "unknown key 'before'" in CliRunner().invoke(app, before).output
    result = CliRunner().invoke(app, [*before, "--config", str(tmp_path / "after.toml")])
    assert "unknown key 'after'" in result.output
    assert "before.toml" not in result.output


def test_a_configuration_that_may_not_be_read_is_told_by_its_reader_and_is_no_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (file := tmp_path / "snigate.toml").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(Path, "read_bytes", refused)
    done = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert done.exit_code == 1
    assert f"error: {file}: cannot be read (permission denied); correct the path or the permissions" in done.output
