"""A pipe through which the kernel moves bytes from one socket to another: splice(2), without a copy to this process."""

from __future__ import annotations

import contextlib
import fcntl
import os

AVAILABLE = hasattr(os, "splice") and hasattr(fcntl, "F_SETPIPE_SZ")
CAPACITY = 256 << 10  # bytes; the kernel gives less to users who have many pipes


class Pipe:
    """A pipe, and how many bytes are in it."""

    __slots__ = ("_in", "_out", "size")

    def __init__(self) -> None:
        """Raises OSError."""
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.size = 0
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, CAPACITY)

    def __len__(self) -> int:
        return self.size

    def fill(self, socket: int) -> int:
        """Move what has come on a socket into the pipe; the number of bytes, 0 at the stream's end. Raises OSError."""
        size = os.splice(socket, self._in, CAPACITY, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        self.size += size
        return size

    def drain(self, socket: int) -> int:
        """Move as much to a socket as it takes; the number of bytes. Raises OSError."""
        size = os.splice(self._out, socket, self.size, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        self.size -= size
        return size

    def close(self) -> None:
        """Close both ends, and lose what is in it."""
        os.close(self._in)
        os.close(self._out)
