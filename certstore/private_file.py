"""Files that only their owner may read, put in place whole."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

_ASIDE = re.compile(r"\..+\.snigate-[0-9a-f]{16}")


def write_private_file(path: Path, data: bytes) -> None:
    """Put `data` in place at `path` whole, readable by its owner only (0600), and on disk when this returns.

    Readers see the old file or the new one. The file it is written to first lies beside it and starts with a dot, so a
    directory scan passes over it. Raises OSError, leaving what was there.
    """
    aside = path.with_name(f".{path.name}.snigate-{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sweep(directory: Path, before: float) -> None:
    """Remove what writers that were killed left aside before then (Unix seconds), as far as that can be done."""
    for path in directory.glob(".*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            if _ASIDE.fullmatch(path.name) and is_ours and status.st_mtime < before:
                path.unlink()


def sync_directory(path: Path) -> None:
    """Have on disk what was renamed in or out of a directory. Raises OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
