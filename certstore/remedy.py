"""What to do about a file system that refuses to be written."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.ENOSPC: "make room on that file system (df and df -i tell what is short)",
    errno.EDQUOT: "make room there, or raise this user's quota",
    errno.EROFS: "that file system is read-only; find out why (dmesg), and mount it writable",
}


def remedy(error: OSError, otherwise: str) -> str:
    """A phrase for the operator; `otherwise` where room is not what is short."""
    return _REMEDIES.get(error.errno or 0, otherwise)
