"""How many files and directories an operator should look at, in words."""

from __future__ import annotations

from collections.abc import Iterable

from admin.reading import Reading
from admin.text import count
from certstore.inventory import UNREADABLE_DIRECTORY


def unusable(reasons: Iterable[str]) -> str:
    """What the problems with these reasons are about: "2 files and 1 directory"; empty where there are none."""
    found = list(reasons)
    directories = found.count(UNREADABLE_DIRECTORY)
    parts = []
    if len(found) > directories:
        parts.append(count(len(found) - directories, "file"))
    if directories:
        parts.append(f"{directories} director{'y' if directories == 1 else 'ies'}")
    return " and ".join(parts)


def held_before(reading: Reading) -> str | None:
    """A sentence where a running server may serve other than what the files hold now."""
    parts = []
    if reading.problems:
        parts.append(f"{unusable(one.reason for one in reading.problems)} cannot be used")
    if waiting := len(reading.snapshot.waiting):
        parts.append(
            f"{count(waiting, 'certificate file')} {'lacks its' if waiting == 1 else 'lack their'} private key"
        )
    if not parts:
        return None
    return f"{', '.join(parts)} ('snigate check' says more); a running server goes on serving what was there before"
