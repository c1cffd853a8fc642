"""Files of numbers that are memory while there is no room: who reads them sees what was counted, or nothing."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from proxy.metric_file import MetricFile


def read(path: Path) -> dict[str, float]:
    """What prometheus-client reads there."""
    held: Iterator[tuple[str, float, float, int]]
    held = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return {key: value for key, value, _, _ in held}


def put(file: MetricFile, numbers: dict[str, float]) -> None:
    for key, number in numbers.items():
        file.read_value(key)
        file.write_value(key, number, 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counter_0.db"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No file has room, until this is undone."""

    def refuse(descriptor: int, *_: int) -> None:
        os.ftruncate(descriptor, 4096)  # as some file systems do: a part of what was asked for
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    return monkeypatch


def test_numbers_are_seen_once_they_have_gone_over_into_the_file_and_as_they_change(path: Path) -> None:
    file = MetricFile(path)
    numbers = {f"key {'x' * number}": number + 0.5 for number in range(300)}
    put(file, numbers)
    assert not path.exists()
    file.settle()
    assert read(path) == numbers
    file.write_value("key x", 77.0, 0.0)
    assert read(path) == numbers | {"key x": 77.0}
    assert file.read_value("key x") == (77.0, 0.0)


def test_the_next_one_goes_on_where_the_one_before_stopped(path: Path) -> None:
    first = MetricFile(path)
    put(first, {"one": 1.0, "two": 2.0})
    first.settle()
    second = MetricFile(path)
    assert second.read_value("two") == (2.0, 0.0)
    put(second, {"two": 3.0, "three": 4.0})
    assert read(path) == {"one": 1.0, "two": 2.0}
    second.settle()
    assert read(path) == {"one": 1.0, "two": 3.0, "three": 4.0}


def test_without_room_what_is_counted_is_kept_and_is_seen_when_there_is_room(
    path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    file = MetricFile(path)
    put(file, {"one": 1.0})
    with pytest.raises(OSError, match="No space left"):
        file.settle()
    assert path.stat().st_size == 0
    put(file, {"one": 2.0, "two": 1.0})
    full_disk.undo()
    file.settle()
    assert read(path) == {"one": 2.0, "two": 1.0}


def test_without_room_for_more_what_others_counted_before_is_still_seen(
    path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    with full_disk.context() as there_is_room:
        there_is_room.setattr(os, "posix_fallocate", lambda descriptor, _, size: os.ftruncate(descriptor, size))
        before = MetricFile(path)
        put(before, {"one": 1.0})
        before.settle()
    file = MetricFile(path)
    put(file, {"two": 2.0})
    with pytest.raises(OSError, match="No space left"):
        file.settle()
    assert read(path) == {"one": 1.0}
    full_disk.undo()
    file.settle()
    assert read(path) == {"one": 1.0, "two": 2.0}


def test_keys_that_come_later_are_seen_too(path: Path) -> None:
    file = MetricFile(path)
    put(file, {"one": 1.0})
    file.settle()
    put(file, {f"later {number}": float(number) for number in range(400)})
    assert read(path) == {"one": 1.0}
    file.settle()
    assert len(read(path)) == 401
    file.write_value("one", 2.0, 0.0)
    assert read(path)["one"] == 2.0


def test_what_was_removed_does_not_come_back(path: Path) -> None:
    file = MetricFile(path)
    put(file, {"one": 1.0})
    file.settle()
    file.remove()
    put(file, {"one": 2.0})
    file.settle()
    assert not path.exists()


def test_a_file_that_has_not_begun_is_begun(path: Path) -> None:
    path.touch()
    file = MetricFile(path)
    put(file, {"one": 1.0})
    file.settle()
    file.close()
    assert read(path) == {"one": 1.0}


@pytest.mark.parametrize(
    "left",
    [
        b"\xff\xff\xff\x7f" + b"x" * 100,
        b"abc",
        struct.pack("=iii", 4000, 0, -20) + bytes(4000),
        struct.pack("=iii", 4000, 0, 8) + b"\xff" * 4000,
        b"\0\0\0\x80" + b"x" * 100,
    ],
)
def test_what_cannot_be_read_begins_anew(path: Path, left: bytes) -> None:
    path.write_bytes(left)
    file = MetricFile(path)
    put(file, {"one": 1.0})
    file.settle()
    assert read(path) == {"one": 1.0}


def test_where_a_directory_is_in_the_way_numbers_are_kept_in_memory(path: Path) -> None:
    path.mkdir()
    file = MetricFile(path)
    put(file, {"one": 1.0})
    with pytest.raises(OSError, match="Is a directory"):
        file.settle()
    assert file.read_value("one") == (1.0, 0.0)
