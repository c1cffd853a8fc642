"""One file of a certificate directory as it was last read."""

from __future__ import annotations

import msgspec

from certstore.load import FileContent, RejectReason

Signature = bytes  # device, inode, size, mtime and ctime in nanoseconds: less than half of what a tuple takes
UNSETTLED: Signature = b""  # no file has it: what carries it is read again at the next scan

_TRIED_AGAIN = (RejectReason.UNREADABLE, RejectReason.UNLOCK_PENDING, RejectReason.UNLOCK_TIMEOUT)


class Rejection(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why a file's content cannot be used: a word out of a fixed set, and a sentence."""

    reason: RejectReason
    message: str


class FileState(msgspec.Struct, frozen=True, gc=False):
    """One file as last read. Exactly one of `content` and `rejection` is set."""

    signature: Signature
    content: FileContent | None
    rejection: Rejection | None

    @property
    def is_pending(self) -> bool:
        """Whether the file is left to decrypt."""
        return self.rejection is not None and self.rejection.reason is RejectReason.UNLOCK_PENDING

    @property
    def is_restless(self) -> bool:
        """Whether the file may be another at the next scan although nothing tells of a change."""
        return self.signature == UNSETTLED or (self.rejection is not None and self.rejection.reason in _TRIED_AGAIN)


Disproof = tuple[str, FileContent, Rejection]  # a file by path, the content that turned out to be damaged, and why
