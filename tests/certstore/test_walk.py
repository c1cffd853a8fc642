from __future__ import annotations

import os
from pathlib import Path

import pytest

from certstore.directory import DirectoryScanner
from certstore.walk import Walk
from tests.support.pki import self_signed


def walked(*roots: Path) -> tuple[list[str], list[str]]:
    """Names of the files found, and of the directories that were not read wholly."""
    walk = Walk([str(root) for root in roots])
    return [Path(path).name for path in walk], [Path(path).name for path, _ in walk.unreadable]


def touch(directory: Path, *names: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).touch()


@pytest.mark.parametrize("target", ["/proc/self", "/proc/self/task", "/sys/kernel", "/dev", "/proc/self/root"])
def test_no_link_leads_anywhere_into_the_kernels_file_systems(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "a")
    (tmp_path / "link").symlink_to(target)
    assert walked(tmp_path) == (["a"], ["link"])


def test_a_link_out_is_followed_as_far_as_its_bound_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certstore.walk.MAX_OUTSIDE", 5)
    roots = tmp_path / "roots"
    touch(roots / "z", "inside")
    touch(tmp_path / "small", "1", "2")
    touch(tmp_path / "large", *"3456")
    touch(tmp_path / "large" / "deep", "never")
    for name in ("small", "large"):
        (roots / f"to-{name}").symlink_to(tmp_path / name)
    (roots / "to-a-small").symlink_to(tmp_path / "small")
    found, told = walked(roots)
    assert found[:2] == ["1", "2"]
    assert found[-1] == "inside"
    assert len(found) <= 5 + 1
    assert "never" not in found
    assert told == ["to-large"]


def test_links_between_the_configured_directories_do_not_lead_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certstore.walk.MAX_OUTSIDE", 0)
    touch(tmp_path / "one", "a")
    touch(tmp_path / "two" / "deep", "b", "c")
    (tmp_path / "one" / "link").symlink_to(tmp_path / "two" / "deep")
    found, told = walked(tmp_path / "one", tmp_path / "two")
    assert (sorted(found), told) == (["a", "b", "c"], [])


def test_a_directory_with_too_much_below_it_leaves_the_others_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certstore.walk.MAX_ENTRIES", 4)
    touch(tmp_path / "flat", *"abcdef")
    for number in range(4):
        touch(tmp_path / "deep" / str(number), "x")
    touch(tmp_path / "last", "1", "2", "3", "4")
    found, told = walked(*(tmp_path / name for name in ("flat", "deep", "last")))
    assert len(found) == 4 + 0 + 4
    assert found[-4:] == ["1", "2", "3", "4"]
    assert told == ["flat", "deep"]


def test_what_a_bounded_walk_does_not_reach_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = self_signed("a.example")
    paths = {str(path) for path in pair.write(tmp_path / "z", "mine")}
    scanner = DirectoryScanner([tmp_path])
    assert set(scanner.scan().files) == paths
    monkeypatch.setattr("certstore.walk.MAX_ENTRIES", 10)
    touch(tmp_path / "a", *map(str, range(20)))
    scan = scanner.scan()
    assert set(scan.files) == scan.unseen == paths
    assert [path for path, _ in scan.unreadable] == [str(tmp_path)]


def test_an_ordinary_device_is_not_taken_for_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /dev is a plain directory of the root file system, as in a chroot."""
    monkeypatch.setattr("certstore.walk._KERNEL", (str(tmp_path / "dev"), "/nonexistent"))
    touch(tmp_path / "dev")
    touch(tmp_path / "elsewhere", "a")
    (tmp_path / "certs").mkdir()
    for name in ("dev", "elsewhere"):
        (tmp_path / "certs" / name).symlink_to(tmp_path / name)
    assert os.stat(tmp_path).st_dev == os.stat(tmp_path / "certs").st_dev  # noqa: PTH116
    assert walked(tmp_path / "certs") == (["a"], ["dev"])
