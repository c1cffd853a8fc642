"""Every file below the certificate directories, whatever somebody has put or linked there.

Links are followed, also out of the configured directories, since people keep certificates where they like. What a
scan may cost is bounded: a link that leads to something vast costs MAX_OUTSIDE entries and is a problem to be told,
and links to what lies above the directories or to the kernel's own file systems are not followed at all.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from certstore.unreadable import LEADS_OUT, TOO_MUCH, TOO_MUCH_OUTSIDE

MAX_ENTRIES = 1_000_000  # files and directories below one configured directory; certbot makes six for a certificate
MAX_OUTSIDE = 100_000  # of these, all together, below links that lead out of the configured directories

_KERNEL = (
    "/proc",
    "/sys",
    "/dev",
    "/dev/pts",
    "/dev/mqueue",
    "/sys/fs/cgroup",
    "/sys/fs/bpf",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
)

Identity = tuple[int, int]  # device, inode


class _Directory(NamedTuple):
    """A directory to be entered, its path without links, and the link that led out of the roots to it or above it."""

    path: str
    real: str
    link: str  # empty within the roots


class Walk:
    """One walk: iterate over it once. Then `unreadable` has the directories not read, or not wholly, and why:
    an errno, or what stands for one in certstore.unreadable.

    `starts` are the directories to walk, where these are not the roots.
    """

    def __init__(self, roots: Sequence[str], starts: Sequence[str] | None = None) -> None:
        self.unreadable: list[tuple[str, int]] = []
        self.entered: dict[str, str] = {}  # directories read: by their path without links, the one they were found by
        self.links: list[str] = []  # files that are links
        self.outside: list[str] = []  # other files below links that lead out of the roots
        self.linked: list[str] = []  # links to directories
        self.entries = 0
        self._roots = roots
        self._starts = roots if starts is None else starts
        self._real_roots = tuple(os.path.realpath(root).rstrip("/") + "/" for root in roots)
        self._closed = _Closed(roots)
        self._identities: set[Identity] = set()

    def __iter__(self) -> Iterator[str]:
        """Every candidate file's path, depth first and sorted; a directory reached twice is entered once."""
        left_outside = MAX_OUTSIDE
        for root in self._starts:
            left = MAX_ENTRIES
            pending = [_Directory(root, _one_string(os.path.realpath(root), root), "")]
            while pending:
                directory = pending.pop()
                link = directory.link
                most = min(left, left_outside) if link else left
                entries = self._entries(directory, most + 1)
                whole = len(entries) <= most
                if not whole:
                    del entries[most:]
                    pending = self._shorten(pending, root, link if left_outside <= left else "")
                left -= len(entries)
                left_outside -= len(entries) if link else 0
                self.entries += len(entries)
                below = []
                for entry in sorted(entries, key=_by_name):
                    if entry.name.startswith("."):
                        continue
                    if not _is_directory(entry):
                        self._note(entry, link)
                        yield entry.path
                    elif whole:
                        below.append(self._below(directory, entry))
                pending.extend(reversed(below))

    def _note(self, entry: os.DirEntry[str], link: str) -> None:
        if entry.is_symlink():
            self.links.append(entry.path)
        elif link:
            self.outside.append(entry.path)

    def _below(self, above: _Directory, entry: os.DirEntry[str]) -> _Directory:
        if not entry.is_symlink():
            real = entry.path if above.real is above.path else f"{above.real}/{entry.name}"
            return _Directory(entry.path, real, above.link)
        self.linked.append(entry.path)
        return _Directory(entry.path, os.path.realpath(entry.path), above.link or self._leads_out(entry))

    def _entries(self, directory: _Directory, most: int) -> list[os.DirEntry[str]]:
        """What a directory lists, as far as that is wanted; nothing where it was entered before or cannot be read."""
        path = directory.path
        try:
            status = os.stat(path)  # noqa: PTH116 - strings are kept through the walk, for speed
            identity = status.st_dev, status.st_ino
            if identity in self._identities:
                return []
            if path not in self._roots and self._closed.holds(identity):
                self.unreadable.append((path, LEADS_OUT))
                return []
            self._identities.add(identity)
            if not stat.S_ISDIR(status.st_mode):
                self.unreadable.append((path, errno.ENOTDIR))
                return []
            with os.scandir(path) as listing:
                entries = list(islice(listing, most))
        except OSError as error:  # something above it that is no directory means that it is not there
            self.unreadable.append((path, errno.ENOENT if error.errno == errno.ENOTDIR else error.errno or 0))
            return []
        self.entered[directory.real] = path
        return entries

    def _shorten(self, pending: list[_Directory], root: str, link: str) -> list[_Directory]:
        """What is left to enter once there is too much below a link, or else below a root."""
        if link:
            self.unreadable.append((link, TOO_MUCH_OUTSIDE))
            return [one for one in pending if one.link != link]
        self.unreadable.append((root, TOO_MUCH))
        return []

    def _leads_out(self, entry: os.DirEntry[str]) -> str:
        """The entry's path where it is a link that leads out of the roots, else nothing."""
        return "" if f"{os.path.realpath(entry.path)}/".startswith(self._real_roots) else entry.path


class _Closed:
    """Directories that no link may lead a scan into: what lies above the roots, and the kernel's file systems."""

    def __init__(self, roots: Sequence[str]) -> None:
        own = {identity[0] for identity in map(_identity, ("/", *roots)) if identity}
        kernel = [identity for identity in map(_identity, _KERNEL) if identity]
        above = {str(path) for root in roots for path in Path(root).parents}
        self._devices = {device for device, _ in kernel} - own
        self._directories = {identity for identity in map(_identity, above) if identity} | set(kernel)

    def holds(self, identity: Identity) -> bool:
        """Whether a directory is one of them."""
        return identity in self._directories or identity[0] in self._devices


def _identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _one_string(real: str, path: str) -> str:
    """The real path, as the very object that the path is where they are equal."""
    return path if real == path else real


def _by_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
