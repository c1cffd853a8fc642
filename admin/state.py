"""The state directory: made when absent, private, and locked, so that one snigate uses it at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from certstore.catalogue import CERTIFICATES

KEEPER_SOCKET = "keeper.sock"
CONTROL_SOCKET = "control.sock"
LOCK = "lock"


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

    @property
    def keeper_socket(self) -> Path:
        """Where workers and control subscribe."""
        return self.path / KEEPER_SOCKET

    @property
    def control_socket(self) -> Path:
        """Where `status` and `reload` ask."""
        return self.path / CONTROL_SOCKET
