from __future__ import annotations

import os
from pathlib import Path

import pytest

from admin.state import StateDirectory, StateError, trouble


def test_the_state_directory_and_what_is_above_it_are_made(tmp_path: Path) -> None:
    StateDirectory(tmp_path / "a/b")
    assert (tmp_path / "a/b/certs").is_dir()


def test_a_second_snigate_is_told_which_process_is_the_first(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path)
    with pytest.raises(StateError, match=rf"another snigate \(process {os.getpid()}\) uses the state directory"):
        StateDirectory(tmp_path)
    assert first.path == tmp_path


def test_a_lock_that_names_no_process_is_told_without_one(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path)
    (tmp_path / "lock").write_text("nonsense")
    with pytest.raises(StateError, match="another snigate uses"):
        StateDirectory(tmp_path)
    assert first.path == tmp_path


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("file", "since it is a file"),
        ("file/state", "file is a file"),
        ("x" * 300, "File name too long"),
        ("loop/state", "Too many levels of symbolic links"),
    ],
)
def test_what_can_be_no_state_directory_is_told_by_looking_and_by_using(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / place
    found = trouble(path)
    assert found is not None
    assert found.startswith(f"{path} cannot be used")
    assert why in found
    with pytest.raises(StateError, match=r"state directory .*; set server.state_directory to"):
        StateDirectory(path)


def test_a_directory_that_may_not_be_written_names_the_user_and_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert "may not write it" in str(trouble(tmp_path))
    assert f"may not make it in {tmp_path}" in str(trouble(tmp_path / "a/b"))


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert trouble(tmp_path / "a/b") is None
    assert list(tmp_path.iterdir()) == []
