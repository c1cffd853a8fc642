"""A file of numbers in prometheus-client's format, which is memory for as long as the disk has no room for it.

prometheus-client maps files that it has not filled. Where the disk is full, the first number in a new page of such a
file is a SIGBUS, and the end of the process. So here numbers begin in memory, and go over into the file once room for
all of them has been taken: until then they are counted, but nobody sees them.

    4 bytes    how much is used, these included
    4 bytes    nothing
    ...        entries: 4 bytes of the key's length, the key filled up with blanks to a multiple of 8, two doubles
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("snigate.worker")

MOST = 64 << 20  # bytes that are taken over

_USED = struct.Struct("i")
_NUMBERS = struct.Struct("dd")
_HEADER = 8  # bytes


class MetricFile:
    """A dictionary of pairs of doubles, what the file already holds among them. prometheus-client's values use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: bytearray | mmap.mmap = bytearray(_USED.pack(_HEADER).ljust(_HEADER, b"\0"))
        self._used = _HEADER
        self._places: dict[str, int] = {}
        self._is_in_place = False
        self._take_over()

    def read_value(self, key: str) -> tuple[float, float]:
        """The numbers of a key, which are zeros at first."""
        if key not in self._places:
            self._add(key, 0.0, 0.0)
        first, second = _NUMBERS.unpack_from(self._data, self._places[key])
        return first, second

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set the numbers of a key that has been read."""
        place = self._places[key]
        self._data[place : place + _NUMBERS.size] = _NUMBERS.pack(value, timestamp)

    def settle(self) -> None:
        """Go over into the file, if that is still to be done. Raises OSError where there is no room, changing nothing.

        Whoever reads at the same time sees what was there before, or everything.
        """
        if self._is_in_place:
            return
        size = -(-self._used // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._path.open("a+b") as file:
            before = os.fstat(file.fileno()).st_size
            try:
                os.posix_fallocate(file.fileno(), 0, max(size, before))
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(before)  # a part of it may have been taken
                raise
            data = mmap.mmap(file.fileno(), size)
        data[_HEADER : self._used] = bytes(self._data[_HEADER : self._used])
        data[: _USED.size] = _USED.pack(self._used)
        self._data, self._is_in_place = data, True

    def remove(self) -> None:
        """Let the file be gone for good. Raises OSError."""
        self._path.unlink(missing_ok=True)
        self._is_in_place = True

    def close(self) -> None:
        """Nothing more is to be written."""
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    def _take_over(self) -> None:
        """What one who had this file before has counted; nothing where that cannot be read, whatever is there."""
        try:
            status = self._path.stat()
            if not status.st_size:
                return
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is no file")
            with self._path.open("rb") as file:
                held = list(_entries(file.read(MOST)))
        except FileNotFoundError:
            return
        except (OSError, ValueError, struct.error) as error:  # whatever is there, no worker is to fail for it
            log.warning("%s cannot be read (%s); what is counted there begins anew", self._path, error)
            return
        for key, value, timestamp in held:
            self._add(key, value, timestamp)

    def _add(self, key: str, value: float, timestamp: float) -> None:
        """Put an entry behind the others, in memory."""
        encoded = key.encode()
        padded = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        entry = _USED.pack(len(encoded)) + padded + _NUMBERS.pack(value, timestamp)
        if isinstance(self._data, mmap.mmap):
            self._data = bytearray(self._data[: self._used])
        self._data += entry
        self._used += len(entry)
        self._data[: _USED.size] = _USED.pack(self._used)
        self._places[key] = self._used - _NUMBERS.size
        self._is_in_place = False


def _entries(data: bytes) -> Iterator[tuple[str, float, float]]:
    """Keys with their numbers. Raises ValueError and struct.error where that is not what is there."""
    (used,) = _USED.unpack_from(data)
    place = _HEADER
    while place < used:
        (length,) = _USED.unpack_from(data, place)
        if length < 0:
            raise ValueError("a key has less than nothing")
        start = place + _USED.size
        numbers = start + length + 8 - (length + 4) % 8
        first, second = _NUMBERS.unpack_from(data, numbers)
        yield data[start : start + length].decode(), first, second
        place = numbers + _NUMBERS.size
