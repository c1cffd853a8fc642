"""Unix socket paths of any length: the kernel's address holds 107 bytes, a state directory's path may be longer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_ADDRESS = 107  # bytes, sun_path less its NUL


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address to bind or connect to `path` with, good inside the block: the path, or a short way through /proc.

    Raises OSError when the path is long and its directory does not exist.
    """
    if len(os.fsencode(path)) <= MAX_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
