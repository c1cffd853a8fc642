from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from admin.state import StateDirectory, StateError, trouble
from certstore import default_certificate
from proxy.privileges import User


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


def test_a_read_only_file_system_is_called_so_and_not_blamed_on_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(os.statvfs(tmp_path))
    found[8] |= os.ST_RDONLY  # f_flag
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(found))
    for path in (tmp_path, tmp_path / "a/b"):
        assert f"{path} cannot be used, since it is on a read-only file system; mount a volume" in str(trouble(path))


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert trouble(tmp_path / "a/b") is None
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_is_made_private(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "above" / "state")
    for path in (state.path, state.path / "certs"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


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


def test_a_state_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 54321)
    with pytest.raises(StateError, match=f"belongs to .*chown {owner + 54321} {path}"):
        StateDirectory(path)
    assert not list(path.iterdir())


def test_a_default_certificate_whose_key_others_can_read_is_refused(tmp_path: Path) -> None:
    default_certificate.ensure(tmp_path)
    file = tmp_path / default_certificate.FILE
    file.chmod(0o640)
    with pytest.raises(StateError, match=f"chmod 600 {file}"):
        StateDirectory(tmp_path)
    file.chmod(0o600)
    assert StateDirectory(tmp_path).path == tmp_path


def test_what_a_killed_writer_left_aside_is_swept_up_at_the_next_start(tmp_path: Path) -> None:
    certs = tmp_path / "state" / "certs"
    certs.mkdir(mode=0o700, parents=True)
    (tmp_path / "state").chmod(0o700)
    old, new = (certs / f".{name}.pem.snigate-0123456789abcdef" for name in "ab")
    others = [certs / name for name in (".hidden", ".key.pem.20250101", ".key.pem.0123abcd")]
    for path in (old, new, *others):
        path.write_text("x")
    directory = certs / ".c.pem.snigate-0123456789abcdef"
    directory.mkdir()
    for path in (old, directory, *others):
        os.utime(path, (0, 0))
    StateDirectory(tmp_path / "state")
    assert [path.exists() for path in (old, new, directory, *others)] == [False, *[True] * 5]


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "lock").symlink_to(victim)
    with pytest.raises(StateError, match="cannot be used"):
        StateDirectory(state)
    assert victim.read_text() == "precious"


def test_a_state_directory_that_the_user_could_change_is_not_shared_with_that_user(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    with pytest.raises(StateError, match=f"me could replace what is in the state directory {state.path}"):
        state.let_through(User("me", os.getuid(), os.getgid()))


def test_the_default_certificate_is_made_for_a_keeper_that_may_not_and_left_to_one_that_may(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    file = tmp_path / default_certificate.FILE
    assert state.default_certificate_for(None) == ()
    assert not file.exists()
    assert state.default_certificate_for(User("nobody", 65534, 65534)) == (file,)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_default_certificate_that_cannot_be_made_is_said_and_watched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(default_certificate, "write_private_file", refuse)
    watched = StateDirectory(tmp_path).default_certificate_for(User("nobody", 65534, 65534))
    assert watched == (tmp_path / default_certificate.FILE,)
    assert "the default certificate cannot be written (No space left on device)" in caplog.text
