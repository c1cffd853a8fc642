from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.webroot import MAX_FILE, challenge


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where challenges are, in the web root tmp_path/root."""
    made = tmp_path / "root" / ".well-known" / "acme-challenge"
    made.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return made


def found(directory: Path, token: str = "token") -> bytes | None:
    return challenge(directory.parents[1], token)


def test_a_regular_file_is_read(directory: Path) -> None:
    (directory / "token").write_bytes(b"token.thumbprint")
    assert found(directory) == b"token.thumbprint"
    (directory / "token").write_bytes(b"")
    assert found(directory) == b""


def test_a_web_root_may_itself_be_a_link(directory: Path, tmp_path: Path) -> None:
    (directory / "token").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert challenge(tmp_path / "link", "token") == b"x"


def test_what_is_not_there_is_not_found(directory: Path, tmp_path: Path) -> None:
    assert found(directory) is None
    assert challenge(tmp_path / "nowhere", "token") is None
    assert challenge(tmp_path / "secret", "token") is None
    assert challenge(tmp_path, "token") is None


def test_the_largest_file_is_read_and_one_byte_more_is_not(directory: Path) -> None:
    (directory / "token").write_bytes(b"x" * MAX_FILE)
    assert found(directory) == b"x" * MAX_FILE
    (directory / "token").write_bytes(b"x" * (MAX_FILE + 1))
    assert found(directory) is None


@pytest.mark.parametrize("to", ["../../../secret", "other"])
def test_no_link_is_followed_wherever_it_leads(directory: Path, to: str) -> None:
    (directory / "other").write_bytes(b"x")
    (directory / "token").symlink_to(to)
    assert (directory / "token").exists()
    assert found(directory) is None


def test_no_directory_on_the_way_may_be_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "acme-challenge"
    elsewhere.mkdir(parents=True)
    (elsewhere / "token").write_bytes(b"x")
    for root in ("one", "two"):
        (tmp_path / root).mkdir()
    (tmp_path / "one" / ".well-known").symlink_to(elsewhere.parent)
    (tmp_path / "two" / ".well-known").mkdir()
    (tmp_path / "two" / ".well-known" / "acme-challenge").symlink_to(elsewhere)
    for root in ("one", "two"):
        assert (tmp_path / root / ".well-known" / "acme-challenge" / "token").exists()
        assert challenge(tmp_path / root, "token") is None


def test_what_is_no_file_is_not_read_and_holds_nothing_up(directory: Path) -> None:
    (directory / "token").mkdir()
    assert found(directory) is None
    os.mkfifo(directory / "fifo")
    assert found(directory, "fifo") is None


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_stays_open(directory: Path) -> None:
    before = open_files()
    (directory / "token").write_bytes(b"x")
    (directory / "link").symlink_to("token")
    for token in ("token", "link", "missing"):
        found(directory, token)
    assert open_files() == before
