"""One line for each change that somebody made: when, who, from where, what. In `<state>/audit.log`, which only grows.

Nobody's private key, passphrase or token ever gets into it; texts of others are escaped.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from admin.state import StateError, require_own
from admin.text import iso, plain
from certstore.cabinet import REQUESTS, CabinetError
from certstore.catalogue import CERTIFICATES, TRUSTED
from certstore.remedy import remedy
from certstore.unreadable import user_name

FILE = "audit.log"


class Actor(NamedTuple):
    """Who makes a change."""

    name: str  # a user of this machine; "token" or "console" over HTTP
    origin: str  # "command", or the address that the request came from


def of_command() -> Actor:
    """Whoever runs a command: the user who called sudo, where that is known."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    behind = os.environ.get("SUDO_USER")
    return Actor(f"{behind} as {user}" if behind and behind != user else user, "command")


class AuditLog:
    """One state directory's."""

    def __init__(self, state_directory: Path) -> None:
        self._path = state_directory / FILE

    def note(self, actor: Actor, action: str, **details: str | list[str]) -> None:
        """Write a line. Raises CabinetError: what cannot be noted is not to be done."""
        entry = {
            "time": iso(time.time()),
            "who": plain(actor.name),
            "from": plain(actor.origin),
            "action": action,
            **{key: plain(value) if isinstance(value, str) else [*map(plain, value)] for key, value in details.items()},
        }
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._insist_on_own()
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                _append(descriptor, json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CabinetError(
                f"{self._path} cannot be written ({error.strerror}), so nothing was changed; "
                f"{remedy(error, 'run this as the user that snigate runs as')}"
            ) from None

    def _insist_on_own(self) -> None:
        """Whose files a state directory's are, and who else may change them: as at the start, see admin.state."""
        for path in (self._path.parent, *(self._path.parent / name for name in (CERTIFICATES, REQUESTS, TRUSTED))):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if status.st_uid != os.geteuid():
                    owner = user_name(status.st_uid)
                    raise CabinetError(
                        f"nothing was changed, since {path} belongs to {owner}, who might not be able to read what "
                        f"{user_name()} writes there; run this as that user: runuser -u {owner} -- snigate ..."
                    )
                try:
                    require_own("directory", path, status, stat.S_IWGRP | stat.S_IWOTH)
                except StateError as error:
                    raise CabinetError(f"nothing was changed, since {error}") from None


def _append(descriptor: int, line: bytes) -> None:
    """Write a line whole, or leave nothing of it. Raises OSError."""
    written = os.write(descriptor, line)
    if written < len(line):  # the disk has room for no more
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if os.fstat(descriptor).st_size == end:  # nobody else has written since
            os.ftruncate(descriptor, end - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
