from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.access_token import ensure, matches
from admin.state import StateError

TOKEN = "a-token-of-some-length"


def test_a_token_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = ensure(file)
    assert len(token) == 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ensure(file) == token


def test_a_token_of_the_operators_own_is_used(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert ensure(file) == TOKEN


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602])
def test_a_token_that_others_can_read_or_change_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(mode)
    with pytest.raises(StateError, match=f"chmod 600 {file}"):
        ensure(file)
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_token_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    ensure(file)
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StateError, match="belongs to"):
        ensure(file)


@pytest.mark.parametrize("content", [b"", b"short", b"two words that are long enough", b"\xff" * 30, b"x" * 600])
def test_what_is_no_token_is_refused_with_the_file_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(StateError, match="token"):
        ensure(file)


def test_a_token_file_that_cannot_be_made_or_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be written"):
        ensure(tmp_path / "missing" / "token")
    with pytest.raises(StateError, match="cannot be read"):
        ensure(tmp_path)


def test_only_the_token_with_the_bearer_scheme_matches() -> None:
    assert matches(TOKEN, f"Bearer {TOKEN}".encode())
    assert matches(TOKEN, f"bearer  {TOKEN}".encode())
    for wrong in (None, b"", b"Bearer", TOKEN.encode(), f"Basic {TOKEN}".encode(), f"Bearer {TOKEN}x".encode()):
        assert not matches(TOKEN, wrong)


@given(st.binary())
def test_no_other_header_matches(value: bytes) -> None:
    assert not matches(TOKEN, value)
    assert not matches(TOKEN, b"Bearer " + value)
