"""The state directory: made when absent, private, and locked, so that one snigate uses it at a time.

Whoever may write into it may have snigate serve keys of theirs, and whoever owns it may do so at any time. So what is
found there is looked at and, where somebody else could have had a hand in it, refused; nothing is mended silently,
since who has had a key already keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import time
from pathlib import Path

from certstore import default_certificate
from certstore.cabinet import REQUESTS
from certstore.catalogue import CERTIFICATES, TRUSTED
from certstore.errors import CertstoreError
from certstore.private_file import sweep
from certstore.remedy import remedy
from certstore.unreadable import user_name
from proxy.privileges import User

log = logging.getLogger("snigate.serve")

KEEPER_SOCKETS = "keeper-*.sock"
CONTROL_SOCKET = "control.sock"
LOCK = "lock"
RELOAD = "/api/v1/reload"  # asked with POST over the control socket, and nowhere else

LEFT_ASIDE = 3600.0  # seconds after which a file that was never put in place was left by a writer that is gone

_ADVICE = "set server.state_directory to a directory that the user snigate runs as may write"


class StateError(Exception):
    """The state directory cannot be used; the message names it and says what to do."""


class StateDirectory:
    """A prepared and locked state directory. The lock is held until the process and its children end."""

    def __init__(self, path: Path) -> None:
        """Raises StateError."""
        self.path = path
        if (found := trouble(path)) is not None:
            raise StateError(f"state directory {found}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            require_own("state directory", path, path.stat(), stat.S_IWGRP | stat.S_IWOTH)
            default = path / default_certificate.FILE
            if default.exists():
                require_own("default certificate's key", default, default.stat(), stat.S_IRWXG | stat.S_IRWXO)
            for name in (CERTIFICATES, TRUSTED):
                (path / name).mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateError(
                f"state directory {path} cannot be used ({error.filename}: {error.strerror}); {remedy(error, _ADVICE)}"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"another snigate{_holder(self._lock)} uses the state directory {path}; "
                "stop it, or set server.state_directory to another"
            ) from None
        with contextlib.suppress(OSError):
            for name in ("", CERTIFICATES, REQUESTS, TRUSTED):
                sweep(path / name, time.time() - LEFT_ASIDE)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)  # for who comes second; a full disk may refuse it

    def new_keeper_socket(self, number: int, in_use: Path | None = None) -> Path:
        """Where workers and control are to subscribe to a keeper; what those before it left is removed."""
        for path in self.path.glob(KEEPER_SOCKETS):
            if path != in_use:
                path.unlink(missing_ok=True)
        return self.path / KEEPER_SOCKETS.replace("*", str(number))

    def let_through(self, user: User) -> None:
        """Let this user reach, by their names, the sockets inside; nothing else. Raises StateError.

        What root does in there must not be led elsewhere by a link that this user puts in the place of something.
        """
        try:
            theirs = next((one for one in (self.path, *self.path.parents) if user.may_write(one.stat())), None)
            if theirs is not None:
                raise StateError(
                    f"{user.name} could replace what is in the state directory {self.path}, since {theirs} is that "
                    f"user's to change; make it root's (chown root {theirs}; chmod go-w {theirs}), or set "
                    "server.state_directory to another"
                )
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

    def default_certificate_for(self, user: User | None) -> tuple[Path, ...]:
        """Make the default certificate, which the keeper, being this user, may not; the file, which is to be watched.

        None: the keeper does so itself. All others are served without it, so that it cannot be made is only said.
        """
        if user is None:
            return ()
        try:
            default_certificate.ensure(self.path)
        except CertstoreError as error:
            log.error("%s; until then, names without a certificate may be refused", error)
        return (self.path / default_certificate.FILE,)

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


def trouble(path: Path) -> str | None:
    """Why this user could not use a state directory, as far as looking at it tells; None for a good one.

    Writes nothing. The sentence begins with the directory's path.
    """
    for there in (path, *path.parents):
        try:
            is_directory = stat.S_ISDIR(there.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # what is above it tells
            continue
        except OSError as error:
            return f"{path} cannot be used ({os.strerror(error.errno or 0)}); {_ADVICE}"
        if not is_directory:
            return f"{path} cannot be used, since {'it' if there == path else there} is a file; {_ADVICE}"
        if not os.access(there, os.X_OK):
            return f"{path} cannot be used, since user {user_name()} may not enter {there}; {_ADVICE}"
        if os.statvfs(there).f_flag & os.ST_RDONLY:
            return f"{path} cannot be used, since it is on a read-only file system; mount a volume there, or {_ADVICE}"
        if not os.access(there, os.R_OK | os.W_OK):
            what = "write it" if there == path else f"make it in {there}"
            return f"{path} cannot be used, since user {user_name()} may not {what}; {_ADVICE}"
        return None
    return None


def _holder(lock: int) -> str:
    """Which process holds the lock, as far as its file says."""
    text = os.pread(lock, 20, 0).strip()
    return f" (process {int(text)})" if text.isdigit() else ""


def require_own(what: str, path: Path, status: os.stat_result, forbidden: int) -> None:
    """Raise StateError unless a file or directory belongs to this user and gives others no `forbidden` mode bit.

    `what` names it in the message.
    """
    if status.st_uid != os.geteuid():
        own = user_name()
        raise StateError(
            f"{what} {path} belongs to {user_name(status.st_uid)}, and snigate runs as {own}; if nobody else had a "
            f"hand in it: chown {own} {path}"
        )
    if status.st_mode & forbidden:
        can = "read" if status.st_mode & forbidden & ~(stat.S_IWGRP | stat.S_IWOTH) else "changed"
        command = "go-w" if stat.S_ISDIR(status.st_mode) else "600"
        raise StateError(
            f"{what} {path} can be {can} by other users of this machine (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"if it was not: chmod {command} {path}"
        )
