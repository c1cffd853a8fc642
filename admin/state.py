"""The state directory: made when absent, private, and locked, so that one snigate uses it at a time.

Whoever may write into it may have snigate serve keys of theirs, and whoever owns it may do so at any time. So what is
found there is looked at and, where somebody else could have had a hand in it, refused; nothing is mended silently,
since who has had a key already keeps it.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path

from certstore import default_certificate
from certstore.catalogue import CERTIFICATES

KEEPER_SOCKET = "keeper.sock"
CONTROL_SOCKET = "control.sock"
LOCK = "lock"


class StateError(Exception):
    """The state directory cannot be used; the message names it and says what to do."""


class StateDirectory:
    """A prepared and locked state directory. The lock is held until the process and its children end."""

    def __init__(self, path: Path, owners: Collection[int] = ()) -> None:
        """`owners` are user ids that it may belong to besides the one that snigate runs as. Raises StateError."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            require_own("state directory", path, path.stat(), stat.S_IWGRP | stat.S_IWOTH, owners)
            default = path / default_certificate.FILE
            if default.exists():
                require_own("default certificate's key", default, default.stat(), stat.S_IRWXG | stat.S_IRWXO, owners)
            (path / CERTIFICATES).mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"state directory {path} cannot be used ({error.strerror}); "
                "set server.state_directory to one that this user may write"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"another snigate uses the state directory {path}; stop it, or set server.state_directory to another"
            ) from None

    @property
    def keeper_socket(self) -> Path:
        """Where workers and control subscribe."""
        return self.path / KEEPER_SOCKET

    @property
    def control_socket(self) -> Path:
        """Where `status` and `reload` ask."""
        return self.path / CONTROL_SOCKET


def require_own(what: str, path: Path, status: os.stat_result, forbidden: int, owners: Collection[int] = ()) -> None:
    """Raise StateError unless a file or directory belongs to this user and gives others no `forbidden` mode bit.

    `owners` are other user ids that will do. `what` names it in the message.
    """
    if status.st_uid != os.geteuid() and status.st_uid not in owners:
        own = _user_name(os.geteuid())
        raise StateError(
            f"{what} {path} belongs to {_user_name(status.st_uid)}, and snigate runs as {own}; if nobody else had a "
            f"hand in it: chown {own} {path}"
        )
    if status.st_mode & forbidden:
        can = "read" if status.st_mode & forbidden & ~(stat.S_IWGRP | stat.S_IWOTH) else "changed"
        command = "go-w" if stat.S_ISDIR(status.st_mode) else "600"
        raise StateError(
            f"{what} {path} can be {can} by other users of this machine (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"if it was not: chmod {command} {path}"
        )


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
