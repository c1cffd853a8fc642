"""What can go wrong in the certificate store; for a file not taken, one enumeration for the metric label and one
sentence for people.
"""

from __future__ import annotations

from enum import StrEnum


class CertstoreError(Exception):
    """Whatever goes wrong in the certificate store; the message is a sentence for the operator."""


# What ends a process. Whatever else comes out of a library that is given a stranger's bytes is that file's
# fault, be it no Exception: a panic in Rust code is a BaseException.
ENDINGS = (KeyboardInterrupt, SystemExit, GeneratorExit)


class RejectReason(StrEnum):
    """The fixed set of reasons; the values are a metric's label."""

    UNREADABLE = "unreadable"  # the operating system refused it
    OVERSIZED = "oversized"
    NOT_A_FILE = "not_a_file"  # a socket, a device, a dangling link
    TRUNCATED = "truncated"  # a writer may still be at it
    MALFORMED = "malformed"
    PASSPHRASE_NEEDED = "passphrase_needed"  # noqa: S105 - a reason, no passphrase; none was given or none fits
    UNSUPPORTED = "unsupported"  # well formed, of a kind that cannot be served
    UNLOCK_TIMEOUT = "unlock_timeout"
    UNLOCK_PENDING = "unlock_pending"  # there was no time for it yet
    UNLOCK_FAILED = "unlock_failed"  # the helper process could not be run or died
    WEAK_KEY = "weak_key"
    MISMATCHED_KEY = "mismatched_key"  # a private key that is not the one its public part belongs to


class FileRejected(CertstoreError):  # noqa: N818 - the past participle says what became of the file
    """A file's content is not taken. `message` is one clause without the path: what is wrong, and what to do.

    It never holds key material or a passphrase.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
