"""Notices that certificate files may have changed, and where; what did change is for a scan to find out.

Events come from inotify through watchfiles. It is deaf where a watched directory is removed and made again, where a
symbolic link above it is swapped, and for link targets outside the watched trees. So twice a second the identity
(device, inode) of the configured paths, of everything above them and of link targets outside is looked at as well,
and the watch is made anew when one changed, or has been removed since. Where events cannot be had of everything, since
inotify has no watches left or a directory cannot be read, the directories are polled for a while, and events are then
tried for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from watchfiles import Change, awatch

log = logging.getLogger("snigate.watch")

LOOK = 0.5  # seconds between looks at identities
POLL = 2.0  # seconds between scans while there are no events
TRY_AGAIN = 60.0  # seconds until events are tried for again
QUIET_MS = 50  # events are handed on when this long no further one came...
PATIENCE_MS = 300  # ...or this long after the first
MAX_EVENTS = 1000  # paths; with more at once, everything counts as changed, also what the system had no room to tell
MAX_TARGETS = 1000  # link targets outside the trees that are looked at each second

Identity = tuple[int, ...]


class Watcher:
    """Sets `changed` whenever a scan is worth it; `take` then says of what.

    `watching` is False while events cannot be had.
    """

    def __init__(self, directories: Sequence[Path], files: Sequence[Path]) -> None:
        self._directories = tuple(directories)
        self._files = tuple(files)
        self._targets: tuple[str, ...] = ()
        self.changed = asyncio.Event()
        self.watching = True
        self._complaint = ""
        self._events: set[str] | None = set()  # None: everything
        self._known: dict[str, Identity] = {}

    def take(self) -> frozenset[str] | None:
        """Where something may have changed since this was called last; None for everywhere."""
        self.changed.clear()
        events, self._events = self._events, set()
        return None if events is None else frozenset(events)

    def ask(self, paths: Iterable[str] | None = None) -> None:
        """Let something at these paths count as changed, or everything."""
        if paths is None:
            self._events = None
        elif self._events is not None:
            self._events.update(paths)
            if len(self._events) > MAX_EVENTS:
                self._events = None
        self.changed.set()

    def look_at_targets(self, paths: Iterable[str]) -> None:
        """Name the files found last: link targets outside the watched trees are then looked at each second."""
        roots = tuple(os.path.realpath(one) + "/" for one in self._directories)
        resolved = lru_cache(os.path.realpath)
        targets = set()
        for path in paths:
            directory, name = os.path.split(path)
            real = os.path.realpath(path) if os.path.islink(path) else f"{resolved(directory)}/{name}"  # noqa: PTH114
            if not real.startswith(roots):
                targets.add(real)
                if len(targets) == MAX_TARGETS:
                    log.info("more than %d link targets outside the directories: the rest at each rescan", MAX_TARGETS)
                    break
        self._targets = tuple(sorted(targets))

    async def run(self) -> None:
        """Watch for ever. Sets `changed` whenever a watch was made: what happened before it is for a scan to find."""
        self._known = self._identities()
        while True:
            stop = asyncio.Event()
            watch = asyncio.create_task(self._watch(stop))
            await asyncio.sleep(0)  # the watch is set up in the task's first step
            self.ask()
            try:
                await self._until_identities_differ()
            finally:
                stop.set()
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch

    async def _until_identities_differ(self) -> None:
        contents = self._contents()
        while True:
            await asyncio.sleep(LOOK)
            if (found := self._contents()) != contents:
                self.ask(path for path in found if found[path] != contents.get(path))
                contents = found
            if (identities := self._identities()) != self._known:
                self._known = identities
                return

    async def _watch(self, stop: asyncio.Event) -> None:
        """Hand on events until `stop`; where events cannot be had, ask for scans instead, and try again now and then.

        One file name that is no UTF-8 ends watchfiles' events, so this need not be for ever.
        """
        existing = [str(path) for path in self._directories if path.is_dir()]
        if not existing:
            return
        again = False
        while not stop.is_set():
            if again:  # once the watch is set up, which is in the generator's first step
                asyncio.get_running_loop().call_soon(self.ask)
            try:
                await self._hand_on(existing, stop)
                return
            except FileNotFoundError:  # something went while the watch was made: one of these, or a directory below
                if self._forget(_missing(existing)):
                    return
                await asyncio.sleep(LOOK)
                again = True
                continue
            except (OSError, RuntimeError, ExceptionGroup) as error:  # watchfiles wraps what goes wrong after its start
                self._complain(error)
            await self._poll(stop)
            again = True

    async def _hand_on(self, existing: Sequence[str], stop: asyncio.Event) -> None:
        self.watching = True
        changes = awatch(
            *existing,
            watch_filter=None,
            debounce=PATIENCE_MS,
            step=QUIET_MS,
            stop_event=stop,
            rust_timeout=1000,
            yield_on_timeout=False,
            recursive=True,
            # What cannot be watched, for whatever reason, would be passed over in silence, and all behind it as well.
            ignore_permission_denied=False,
        )
        async for events in changes:
            self.ask(path for _, path in events)
            self._forget(path for kind, path in events if kind is Change.deleted and path in existing)

    def _forget(self, removed: Iterable[str]) -> bool:
        """Have a new watch follow, since directories are gone: those made anew may have the same inodes."""
        forgotten = [path for path in removed if self._known.pop(path, None)]
        return bool(forgotten)

    def _complain(self, error: BaseException) -> None:
        """Say once why there are no events, and again only when it is for another reason."""
        self.watching = False
        causes = list(_causes(error))
        complaint = ", ".join(map(str, causes))
        if complaint != self._complaint:
            log.warning(
                "certificate directories cannot be watched for events (%s); they are scanned every %g s meanwhile, and "
                "events are tried for again each minute%s",
                complaint,
                POLL,
                _remedy(causes),
            )
        self._complaint = complaint

    async def _poll(self, stop: asyncio.Event) -> None:
        """Ask for a scan every POLL seconds until it is time to try for events again."""
        for _ in range(max(1, round(TRY_AGAIN / POLL))):
            self.ask()
            await asyncio.sleep(POLL)
            if stop.is_set():
                return

    def _identities(self) -> dict[str, Identity]:
        """Device and inode of each configured directory and of everything above it, links and targets alike."""
        return {path: _identity(path) for path in self._stations()}

    def _stations(self) -> Iterator[str]:
        for directory in self._directories:
            yield str(directory)
            yield from map(str, directory.parents)

    def _contents(self) -> dict[str, Identity]:
        """Identity, size and time of the single files and link targets."""
        return {path: _content(path) for path in (*map(str, self._files), *self._targets)}


def _missing(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if not Path(path).is_dir()]


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    else:
        yield error


def _remedy(causes: Sequence[BaseException]) -> str:
    """What to do about inotify's limits, and permissions; watchfiles tells of most errors only by their text."""
    for limit, number, text in (
        ("fs.inotify.max_user_watches", errno.ENOSPC, "watch limit reached"),
        ("fs.inotify.max_user_instances", errno.EMFILE, f"(os error {errno.EMFILE})"),
    ):
        if any(text in str(one) or (isinstance(one, OSError) and one.errno == number) for one in causes):
            return f". Raise {limit} to get events back"
    if any(isinstance(one, PermissionError) for one in causes):
        return ". Let the user that snigate runs as read all of them to get events back"
    return ""


def _identity(path: str) -> Identity:
    try:
        link, target = os.lstat(path), os.stat(path)  # noqa: PTH116
    except OSError as error:
        return (error.errno or 0,)
    return link.st_dev, link.st_ino, target.st_dev, target.st_ino


def _content(path: str) -> Identity:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return (error.errno or 0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
