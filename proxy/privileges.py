"""Giving up what only root may: workers and control become `server.user` before they meet anything a stranger sends."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass


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


def become(user: User) -> None:
    """Be this user, with this user's groups and no others, and no way back. Raises OSError."""
    os.initgroups(user.name, user.gid)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)  # from root: all capabilities go with it (capabilities(7))
