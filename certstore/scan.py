"""What a look at the certificate directories found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from certstore.file_state import Disproof, FileState


class Scan(NamedTuple):
    """What the directories hold now. `files` is the scanner's own, and is what it is only until the next scan."""

    files: Mapping[str, FileState]  # by path as found (links not resolved); files that are none of ours are left out
    unseen: frozenset[str]  # of `files`, those in a directory that could not be read now: as they were last seen
    unreadable: tuple[tuple[str, int], ...]  # directories not (wholly) read: path, and errno or what stands for one
    pending: bool = False  # files are left to decrypt, or keys to prove, by another scan
    touched: frozenset[str] | None = None  # the paths that may have other content than at the scan before; None: all
    unusable: frozenset[str] | None = None  # paths of `files` that are rejected; None: to be found out
    disproved: tuple[Disproof, ...] = ()  # content that counted until now and never should have

    @property
    def rejected(self) -> Iterator[tuple[str, FileState]]:
        """Files that cannot be used."""
        for path in self.files if self.unusable is None else self.unusable:
            if (state := self.files[path]).rejection is not None:
                yield path, state
