from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from watchfiles import awatch

from certstore.watch import Watcher

PATIENCE = 10.0

Check = Callable[[Watcher], Coroutine[Any, Any, None]]


def watching(directories: list[Path], files: list[Path], check: Check) -> None:
    """Run `check` while a watcher runs that has told of its own start."""

    async def run() -> None:
        watcher = Watcher(directories, files)
        task = asyncio.create_task(watcher.run())
        try:
            await told(watcher)
            await check(watcher)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


async def told(watcher: Watcher) -> None:
    """Wait until the watcher says that a scan is worth it; forget it then, as the keeper does before it scans."""
    await asyncio.wait_for(watcher.changed.wait(), PATIENCE)
    watcher.changed.clear()


def test_files_written_renamed_removed_and_swapped_by_links_are_told(tmp_path: Path) -> None:
    async def check(watcher: Watcher) -> None:
        (tmp_path / "a.pem").write_bytes(b"a")
        await told(watcher)
        (tmp_path / "a.pem").rename(tmp_path / "b.pem")
        await told(watcher)
        (tmp_path / "..1").mkdir()
        (tmp_path / "..data").symlink_to("..1")
        await told(watcher)
        (tmp_path / "..tmp").symlink_to("..1")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        await told(watcher)
        (tmp_path / "b.pem").unlink()
        await told(watcher)

    watching([tmp_path], [], check)


def test_a_directory_made_below_is_watched_too(tmp_path: Path) -> None:
    async def check(watcher: Watcher) -> None:
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True)
        await told(watcher)
        (below / "a.pem").write_bytes(b"a")
        await told(watcher)

    watching([tmp_path], [], check)


def test_a_watched_directory_made_anew_is_watched_anew(tmp_path: Path) -> None:
    root = tmp_path / "certificates"
    root.mkdir()

    async def check(watcher: Watcher) -> None:
        for number in range(2):
            root.rename(tmp_path / f"old{number}")
            await told(watcher)
            root.mkdir()
            await told(watcher)
        (root / "a.pem").write_bytes(b"a")
        await told(watcher)

    watching([root], [], check)


def test_a_watched_directory_removed_and_made_anew_at_once_is_watched_even_with_the_same_inode(tmp_path: Path) -> None:
    root = tmp_path / "certificates"
    root.mkdir()

    async def check(watcher: Watcher) -> None:
        for number in range(3):
            root.rmdir()
            root.mkdir()
            await told(watcher)  # of the removal
            await told(watcher)  # of the new watch
            (root / f"{number}.pem").write_bytes(b"a")
            await told(watcher)
            (root / f"{number}.pem").unlink()
            await told(watcher)

    watching([root], [], check)


def test_a_directory_below_that_goes_while_the_watch_is_made_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def vanish(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        if made == 1:
            raise FileNotFoundError(2, "No such file or directory")
        return awatch(*arguments, **options)

    monkeypatch.setattr("certstore.watch.awatch", vanish)

    async def check(watcher: Watcher) -> None:
        await told(watcher)
        (tmp_path / "a.pem").write_bytes(b"a")
        await told(watcher)

    watching([tmp_path], [], check)


def test_a_directory_that_comes_into_being_only_later_is_watched_then(tmp_path: Path) -> None:
    root = tmp_path / "above" / "certificates"

    async def check(watcher: Watcher) -> None:
        root.mkdir(parents=True)
        await told(watcher)
        (root / "a.pem").write_bytes(b"a")
        await told(watcher)

    watching([root], [], check)


def test_a_symbolic_link_swapped_above_a_watched_directory_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "certificates").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("one")

    async def check(watcher: Watcher) -> None:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(link)
        await told(watcher)
        (tmp_path / "two" / "certificates" / "a.pem").write_bytes(b"a")
        await told(watcher)

    watching([link / "certificates"], [], check)


def test_single_files_are_looked_at_also_while_they_do_not_exist(tmp_path: Path) -> None:
    root, single = tmp_path / "certificates", tmp_path / "default"
    root.mkdir()

    async def check(watcher: Watcher) -> None:
        for change in (lambda: single.write_text("a"), lambda: single.write_text("other"), single.unlink):
            change()
            await told(watcher)

    watching([root], [single], check)


def test_a_link_target_outside_the_directories_is_looked_at(tmp_path: Path) -> None:
    root, outside = tmp_path / "certificates", tmp_path / "outside.pem"
    root.mkdir()
    outside.write_bytes(b"a")
    (root / "a.pem").symlink_to(outside)
    (root / "b.pem").write_bytes(b"b")

    async def check(watcher: Watcher) -> None:
        watcher.look_at_targets([str(root / "a.pem"), str(root / "b.pem")])
        await told(watcher)
        outside.write_bytes(b"changed")
        await told(watcher)

    watching([root], [], check)


def test_what_is_written_as_soon_as_a_watcher_has_told_is_told_again(tmp_path: Path) -> None:
    """A scan begins when something was told: whatever happens from then on must be told once more.

    So a new watch has to be in place before the scan that its making calls for.
    """
    root = tmp_path / "certificates"
    root.mkdir()

    async def check(watcher: Watcher) -> None:
        for number in range(3):
            root.rename(tmp_path / f"old{number}")
            root.mkdir()
            await told(watcher)
            (root / "a.pem").write_bytes(b"a")
            await asyncio.wait_for(watcher.changed.wait(), PATIENCE)
            watcher.changed.clear()

    watching([root], [], check)


def test_where_events_cannot_be_had_directories_are_polled_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr("certstore.watch.awatch", refuse)
    monkeypatch.setattr("certstore.watch.POLL", 0.01)

    async def check(watcher: Watcher) -> None:
        assert not watcher.watching
        await told(watcher)
        await told(watcher)

    watching([tmp_path], [], check)
    assert "fs.inotify.max_user_watches" in caplog.text


def test_a_name_that_is_not_utf_8_ends_events_for_a_while_only_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("certstore.watch.POLL", 0.01)
    monkeypatch.setattr("certstore.watch.TRY_AGAIN", 0.05)
    made = 0

    def count(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        return awatch(*arguments, **options)

    monkeypatch.setattr("certstore.watch.awatch", count)

    async def check(watcher: Watcher) -> None:
        for number in range(2):
            (tmp_path / os.fsdecode(b"\xff%d" % number)).write_bytes(b"x")
            async with asyncio.timeout(PATIENCE):
                while made < 2 + number or not watcher.watching:
                    await asyncio.sleep(0.01)
            await told(watcher)
            (tmp_path / f"{number}.pem").write_bytes(b"a")
            await told(watcher)

    watching([tmp_path], [], check)
    complaints = [message for message in caplog.messages if "cannot be watched" in message]
    assert len(complaints) == 2
    assert all("Unable to decode" in one and "inotify" not in one for one in complaints)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(28, "No space left on device"), "fs.inotify.max_user_watches"),
        (OSError("OS file watch limit reached. about [/certs]"), "fs.inotify.max_user_watches"),
        (RuntimeError("Error creating recommended watcher: Too many open files (os error 24)"), "max_user_instances"),
        (ExceptionGroup("of a task group", [OSError(28, "full")]), "fs.inotify.max_user_watches"),
        (PermissionError("Permission denied (os error 13) about [/certs/a]"), "the user that snigate runs as read all"),
        (OSError(5, "Input/output error"), None),
    ],
)
def test_what_is_in_the_way_of_events_is_said_once_with_what_to_do_about_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    remedy: str | None,
) -> None:
    tried = 0

    def refuse(*_: object, **__: object) -> None:
        nonlocal tried
        tried += 1
        raise error

    monkeypatch.setattr("certstore.watch.awatch", refuse)
    monkeypatch.setattr("certstore.watch.POLL", 0.001)
    monkeypatch.setattr("certstore.watch.TRY_AGAIN", 0.002)

    async def check(watcher: Watcher) -> None:
        async with asyncio.timeout(PATIENCE):
            while tried < 5:
                await asyncio.sleep(0.001)
        assert not watcher.watching

    watching([tmp_path], [], check)
    assert len(caplog.messages) == 1
    assert ("to get events back" in caplog.text) is (remedy is not None)
    assert remedy is None or remedy in caplog.text
