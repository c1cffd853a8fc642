"""Giving up what only root may, before anything is met that a stranger or a certificate file says.

With `server.user`, workers, control and keeper become that user; the keeper alone keeps the right to read what others
may not. The supervisor stays root, with the few capabilities that it has a use for. Who starts snigate as root without
`server.user` has chosen to have it so. Whoever is not root may have been given capabilities: none outlives the fork but
the keeper's.
"""

from __future__ import annotations

import logging
import os
import pwd
import stat
from collections.abc import Set
from dataclasses import dataclass

from proxy import capabilities
from proxy.capabilities import Capability

log = logging.getLogger("snigate.serve")

# To bind, to give files away and remove what is in them, to become and to end children.
SUPERVISORS = frozenset(Capability)
KEEPERS = frozenset({Capability.DAC_READ_SEARCH})


class UserError(Exception):
    """The user cannot be become; the message names the key and says what to do."""


@dataclass(frozen=True)
class User:
    """Whom to become."""

    name: str
    uid: int
    gid: int  # the primary group's

    def own(self, path: os.PathLike[str]) -> None:
        """Give a file or directory to this user; of a link, the link itself. Raises OSError."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def may_write(self, status: os.stat_result) -> bool:
        """Whether this user could put something else in the place of what lies in a directory with this status."""
        if status.st_uid == self.uid:
            return True
        if status.st_mode & stat.S_ISVTX:  # only owners may remove or rename
            return False
        return bool(status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if status.st_gid == self.gid else 0)))


def find_user(name: str) -> User:
    """The user of this name. Raises UserError."""
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise UserError(f'there is no user "{name}"; create it, or correct server.user') from None
    return User(name, found.pw_uid, found.pw_gid)


def user_to_become(name: str | None) -> User | None:
    """Whom processes are to become; None: they stay what they are. Raises UserError when they could not."""
    if name is None:
        return None
    user = find_user(name)
    if os.geteuid() == user.uid:
        return None
    if os.geteuid() != 0:
        raise UserError(f'only root can become "{name}"; start snigate as root, or leave server.user out')
    return user


def supervise_only(user: User | None) -> None:
    """Be the supervisor: let no program give this process or its children more; with `user`, have what it takes.

    Where all are one user that is not root, none of them may look into the others. Raises OSError.
    """
    capabilities.gain_nothing()
    if os.geteuid() != 0:
        capabilities.close_memory()
    if user is not None:
        capabilities.give_up_bounds(SUPERVISORS)
        capabilities.keep_only(SUPERVISORS)


def confine(user: User | None, keeping: Set[int] = frozenset()) -> None:
    """In a process just forked: be this user, and have these capabilities at most. Raises OSError."""
    if user is not None:
        become(user, keeping)
    elif os.geteuid() != 0 and not capabilities.permitted() <= keeping:
        try:
            capabilities.hand_on(keeping)
        except PermissionError as error:  # a sandbox's filter; the rest of it is in force
            log.warning("capabilities cannot be given up (%s); allow the system call capset", error.strerror)


def become(user: User, keeping: Set[int] = frozenset()) -> None:
    """Be this user, with this user's groups and no others, and no way back. Raises OSError.

    Of root's capabilities only `keeping` are kept, and also handed on to the programs that this process executes.
    """
    os.initgroups(user.name, user.gid)
    os.setresgid(user.gid, user.gid, user.gid)
    capabilities.give_up_bounds(keeping)
    capabilities.keep_through_change_of_user(bool(keeping))
    os.setresuid(user.uid, user.uid, user.uid)
    capabilities.keep_through_change_of_user(False)
    capabilities.hand_on(keeping)
