"""The state directory: made when absent, private, and locked, so that one snigate uses it at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from certstore.catalogue import CERTIFICATES
from proxy.privileges import User

KEEPER_SOCKETS = "keeper-*.sock"
CONTROL_SOCKET = "control.sock"
LOCK = "lock"
RELOAD = "/api/v1/reload"  # asked with POST over the control socket, and nowhere else


class StateError(Exception):
    """The state directory cannot be used; the message names it and says what to do."""


class StateDirectory:
    """A prepared and locked state directory. The lock is held until the process and its children end."""

    def __init__(self, path: Path) -> None:
        """Raises StateError."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
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

    def new_keeper_socket(self, number: int, in_use: Path | None = None) -> Path:
        """Where workers and control are to subscribe to a keeper; what those before it left is removed."""
        for path in self.path.glob(KEEPER_SOCKETS):
            if path != in_use:
                path.unlink(missing_ok=True)
        return self.path / KEEPER_SOCKETS.replace("*", str(number))

    def let_through(self, user: User) -> None:
        """Let this user reach, by their names, the sockets inside; nothing else. Raises StateError."""
        try:
            if not _is_open_to(self.path, user):
                os.chown(self.path, -1, user.gid)
                self.path.chmod(stat.S_IMODE(self.path.stat().st_mode) | stat.S_IXGRP)
            closed = next((one for one in self.path.parents if not _is_open_to(one, user)), None)
        except OSError as error:
            raise StateError(
                f"state directory {self.path} cannot be opened to {user.name} ({error.strerror}); "
                "set server.state_directory to one that can"
            ) from error
        if closed is not None:
            raise StateError(
                f"{user.name} cannot reach the state directory {self.path}, since {closed} lets nobody else through; "
                f"change its mode (chmod o+x {closed}), or set server.state_directory to another"
            )

    @property
    def control_socket(self) -> Path:
        """Where `status` and `reload` ask."""
        return self.path / CONTROL_SOCKET


def _is_open_to(directory: Path, user: User) -> bool:
    """Whether a user can reach what is inside, by the primary group at most."""
    found = directory.stat()
    if found.st_uid == user.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
