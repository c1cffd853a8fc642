from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from admin.state import StateDirectory, StateError
from certstore import default_certificate


def test_a_state_directory_is_made_private(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "above" / "state")
    for path in (state.path, state.path / "certs"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_state_directory_that_another_uses_is_refused(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "state")
    with pytest.raises(StateError, match="another snigate uses"):
        StateDirectory(first.path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_state_directory_that_others_can_write_into_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(StateError, match=f"chmod go-w {path}") as caught:
        StateDirectory(path)
    assert f"{mode:04o}" in str(caught.value)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert not list(path.iterdir())


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o710])
def test_a_state_directory_that_others_can_only_look_at_is_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    assert StateDirectory(path).path == path


def test_a_state_directory_of_another_user_is_refused_but_for_those_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 54321)
    with pytest.raises(StateError, match=f"belongs to .*chown {owner + 54321} {path}"):
        StateDirectory(path)
    assert not list(path.iterdir())
    assert StateDirectory(path, (owner,)).path == path


def test_a_default_certificate_whose_key_others_can_read_is_refused(tmp_path: Path) -> None:
    default_certificate.ensure(tmp_path)
    file = tmp_path / default_certificate.FILE
    file.chmod(0o640)
    with pytest.raises(StateError, match=f"chmod 600 {file}"):
        StateDirectory(tmp_path)
    file.chmod(0o600)
    assert StateDirectory(tmp_path).path == tmp_path
