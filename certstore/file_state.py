"""One file of a certificate directory as it was last read."""

from __future__ import annotations

import msgspec

from certstore.load import FileContent, RejectReason

Signature = bytes  # device, inode, size, mtime and ctime in nanoseconds: less than half of what a tuple takes
UNSETTLED: Signature = b""  # no file has it: what carries it is read again at the next scan


class Rejection(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why a file's content cannot be used: a word out of a fixed set, and a sentence."""

    reason: RejectReason
    message: str


class FileState(msgspec.Struct, frozen=True, gc=False):
    """One file as last read. Exactly one of `content` and `rejection` is set."""

    signature: Signature
    content: FileContent | None
    rejection: Rejection | None
