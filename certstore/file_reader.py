"""One file of a certificate directory, looked at and read without ever being held up by what somebody put there."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence

from certstore.errors import ENDINGS
from certstore.file_state import UNSETTLED, FileState, Rejection, Signature
from certstore.load import MAX_FILE_SIZE, FileContent, FileRejected, RejectReason, looks_like_ours, parse_file
from certstore.unlock import Unlock
from certstore.unreadable import of_file

SUFFIXES = (".pem", ".crt", ".cer", ".cert", ".key", ".der", ".p12", ".pfx", ".chain", ".ca-bundle")

TICK_NS = 50_000_000
HEAD = 4096  # bytes by which a file without one of these suffixes is taken for ours or not

_pack = struct.Struct("=QQqqq").pack
_TEXT_FORMS = (b"Certificate:", b"Private-Key:", b"RSA Private-Key:")  # what `openssl -text` puts before the PEM
_NOT_A_FILE = Rejection(RejectReason.NOT_A_FILE, "is not a regular file; remove it from the directory")


def look_at(path: str) -> Signature | FileState | None:
    """A regular file's signature, without reading the file; what else is there; None when nothing is."""
    try:
        status = os.stat(path)  # noqa: PTH116 - strings are kept through a scan, for speed
    except OSError as error:
        return _refused(path, UNSETTLED, error)
    signature = _signature(status)
    return signature if stat.S_ISREG(status.st_mode) else FileState(signature, None, _NOT_A_FILE)


def content_of(path: str, passphrases: Sequence[bytes], unlock: Unlock) -> FileContent:
    """Everything of ours in one file, which is opened only where it is a regular one. Raises OSError, FileRejected."""
    return parse_file(_read_settled(path, whatever=True)[1], passphrases, unlock)


def bytes_of(path: str) -> bytes:
    """A regular file's bytes, opened in the same way. Raises OSError, FileRejected."""
    return _read_settled(path, whatever=True)[1]


def read_file(
    path: str,
    passphrases: Sequence[bytes],
    unlock: Unlock,
    prove: Callable[[FileContent], None] | None,
    *,
    as_its_user: bool = False,
) -> FileState | None:
    """Read and parse one file; None when it holds nothing of ours and does not claim to, or is gone by now.

    `prove` raises FileRejected for content that does not hold together. `as_its_user`: a file that this process's user
    may not read counts as unreadable, whatever rights the process has beside.
    """
    signature = UNSETTLED
    try:
        claims = path.lower().endswith(SUFFIXES)
        signature, data = _read_settled(path, whatever=claims, as_its_user=as_its_user)
        if not claims and not looks_like_ours(data):
            return None
        content = parse_file(data, passphrases, unlock)
        if prove is not None:
            prove(content)
        return FileState(signature, content, None)
    except FileRejected as rejected:
        return FileState(signature, None, Rejection(rejected.reason, rejected.message))
    except OSError as error:
        return _refused(path, signature, error)
    except ENDINGS:
        raise
    except BaseException as error:  # whatever a library makes of hostile bytes costs this file, not all of them
        message = f"cannot be parsed ({type(error).__name__}); replace it"
        return FileState(signature, None, Rejection(RejectReason.MALFORMED, message))


def _read_settled(path: str, *, whatever: bool, as_its_user: bool = False) -> tuple[Signature, bytes]:
    """The content of a regular file and the signature it had while it was read.

    Nothing else is opened, not even to look: to open a device may be to start it.

    Unless `whatever` is wanted, only the HEAD of a file that does not begin like one of ours.

    Opened without blocking, so that a FIFO or device dropped into the directory holds nobody up. The signature is
    taken before the read: a write that lands in between changes it, and the next scan reads again. File times move in
    ticks of the kernel's clock, so a file written a moment ago may change once more without its signature showing it:
    such a file counts as unsettled.
    """
    _insist_on_a_file(os.stat(path))  # noqa: PTH116 - as in look_at
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        _insist_on_a_file(status)
        if as_its_user and status.st_uid != os.geteuid():
            _insist_on_leave(descriptor)
        settled = abs(time.time_ns() - status.st_mtime_ns) > TICK_NS  # also for a time to come, which is no moment ago
        signature = _signature(status) if settled else UNSETTLED
        head = os.read(descriptor, HEAD)
        if len(head) == status.st_size:
            return signature, head
        if not whatever and not head.startswith(_TEXT_FORMS) and not looks_like_ours(head):
            return signature, head
        if status.st_size > MAX_FILE_SIZE:
            raise FileRejected(
                RejectReason.OVERSIZED,
                f"has {status.st_size} bytes, more than the {MAX_FILE_SIZE} a certificate file may have",
            )
        chunks = [head]
        while chunk := os.read(descriptor, 1 << 16):
            chunks.append(chunk)
            if sum(map(len, chunks)) > MAX_FILE_SIZE:
                raise FileRejected(RejectReason.OVERSIZED, f"grew beyond {MAX_FILE_SIZE} bytes while it was read")
        return signature, b"".join(chunks)
    finally:
        os.close(descriptor)


def _insist_on_a_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileRejected(_NOT_A_FILE.reason, _NOT_A_FILE.message)


def _insist_on_leave(descriptor: int) -> None:
    """access(2) asks for the user alone, and here for what is open: nobody can put something else in its place."""
    if not os.access(f"/proc/self/fd/{descriptor}", os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _signature(status: os.stat_result) -> Signature:
    return _pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _refused(path: str, signature: Signature, error: OSError) -> FileState | None:
    """What to make of a file that the system does not give; None when it was removed after its directory was listed.

    A link that points to nothing is still there, and opening a socket gives ENXIO.
    """
    if error.errno == errno.ENOENT and not os.path.islink(path):  # noqa: PTH114
        return None
    if error.errno == errno.ENXIO:
        return FileState(signature, None, _NOT_A_FILE)
    return FileState(signature, None, Rejection(RejectReason.UNREADABLE, of_file(error)))
