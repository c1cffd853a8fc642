"""Certificate directories, read: what each file in them holds, and which files are gone.

A scan walks the directories and looks at every file's signature (device, inode, size, times); only a file whose
signature changed is read again. Symbolic links are followed, each resolved once per read. Names that start with a
dot are not entered by themselves, so a Kubernetes mount is read through its links, never through `..data` as well.

What a scan cannot see is not gone: files below a directory that is missing or unreadable are reported as they were
last seen. A file is gone only when its directory was read and did not list it.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from certstore.errors import ENDINGS
from certstore.load import (
    MAX_FILE_SIZE,
    Certificate,
    FileContent,
    FileRejected,
    RejectReason,
    looks_like_ours,
    parse_file,
    prove_key,
)
from certstore.spread import spread
from certstore.unlock import Budget
from certstore.unreadable import of_file
from certstore.walk import Walk

SUFFIXES = (".pem", ".crt", ".cer", ".cert", ".key", ".der", ".p12", ".pfx", ".chain", ".ca-bundle")

Signature = tuple[int, int, int, int, int]  # device, inode, size, mtime and ctime in nanoseconds
UNSETTLED: Signature = (0, 0, 0, 0, 0)  # no file has it: what carries it is read again at the next scan
TICK_NS = 50_000_000
HEAD = 4096  # bytes by which a file without one of these suffixes is taken for ours or not
RETRY_SLOW = 60.0  # seconds until a file that took too long to decrypt is tried again, then twice as long each time...
RETRY_SLOW_AT_MOST = 3600.0  # ...up to this

_TEXT_FORMS = (b"Certificate:", b"Private-Key:", b"RSA Private-Key:")  # what `openssl -text` puts before the PEM


class Rejection(msgspec.Struct, frozen=True):
    """Why a file's content cannot be used: a word out of a fixed set, and a sentence."""

    reason: RejectReason
    message: str


_NOT_A_FILE = Rejection(RejectReason.NOT_A_FILE, "is not a regular file; remove it from the directory")


class FileState(msgspec.Struct, frozen=True):
    """One file as last read. Exactly one of `content` and `rejection` is set."""

    signature: Signature
    content: FileContent | None
    rejection: Rejection | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[FileState | None])


class _Slow(NamedTuple):
    """A file that took too long to decrypt: as it was then, how long to leave it alone, and until when (monotonic)."""

    signature: Signature
    wait: float
    again_at: float


class Scan(NamedTuple):
    """What the directories hold now."""

    files: dict[str, FileState]  # by path as found (links not resolved); files that are none of ours are left out
    unseen: frozenset[str]  # of `files`, those in a directory that could not be read now: as they were last seen
    unreadable: tuple[tuple[str, int], ...]  # directories not (wholly) read: path, and errno or what stands for one
    pending: bool = False  # files are left to decrypt, by another scan


class DirectoryScanner:
    """Scans certificate directories, remembering signatures between scans.

    `passphrases` is called at each scan; when its answer changes, files that wanted a passphrase are tried again.
    """

    def __init__(self, roots: Sequence[Path], passphrases: Callable[[], Sequence[bytes]] = tuple) -> None:
        self._roots = tuple(str(root) for root in roots)
        self._passphrases_source = passphrases
        self._passphrases: Sequence[bytes] = ()
        self._known: dict[str, FileState] = {}
        self._foreign: dict[str, Signature] = {}  # files that hold nothing of ours, such as a README
        self._certificates: dict[str, Certificate] = {}  # by fingerprint: one object however many files hold it
        self._proven: set[bytes] = set()  # public keys (SPKI hashes) whose private key has proved itself
        self._slow: dict[str, _Slow] = {}  # files that took too long to decrypt
        self._unlock = Budget(math.inf)

    def scan(self, unlock_seconds: float = math.inf) -> Scan:
        """Walk all directories; the result is what they hold now. Never raises for what it finds there.

        At most `unlock_seconds` go to decrypting; what is left then is rejected for now, and first at the next scan.
        """
        self._unlock = Budget(unlock_seconds)
        passphrases = tuple(self._passphrases_source())
        retry = passphrases != tuple(self._passphrases)
        self._passphrases = passphrases
        files: dict[str, FileState] = {}
        foreign: dict[str, Signature] = {}
        changed: dict[str, Signature] = {}
        walk = Walk(self._roots)
        for path in walk:
            looked = self._look(path, retry, foreign)
            if isinstance(looked, FileState):
                files[path] = looked
            elif looked is not None:
                changed[path] = looked
        reading = sorted(changed, key=lambda path: not _is_pending(self._known.get(path)))
        for path, state in zip(reading, self._read_all(reading), strict=True):
            if state is None:
                foreign[path] = changed[path]
            else:
                files[path] = self._shared(state)
        self._note_slow(files, changed)
        lost = tuple(directory.rstrip("/") + "/" for directory, _ in walk.unreadable)
        unseen = frozenset(path for path in self._known if path not in files and path.startswith(lost)) if lost else ()
        files.update((path, self._known[path]) for path in unseen)
        if files != self._known:
            self._certificates = {one.fingerprint: one for state in files.values() for one in _certificates(state)}
        self._known, self._foreign = files, foreign
        pending = any(_is_pending(files.get(path)) for path in reading)
        return Scan(files, frozenset(unseen), tuple(walk.unreadable), pending)

    def _note_slow(self, files: dict[str, FileState], tried: Container[str]) -> None:
        """When to try those again that took too long to decrypt; a file that changed is tried at once."""
        now = time.monotonic()
        slow = {}
        for path, state in files.items():
            if state.rejection is None or state.rejection.reason is not RejectReason.UNLOCK_TIMEOUT:
                continue
            known = self._slow.get(path)
            if known is None or known.signature != state.signature:
                slow[path] = _Slow(state.signature, RETRY_SLOW, now + RETRY_SLOW)
            elif path in tried:
                wait = min(2 * known.wait, RETRY_SLOW_AT_MOST)
                slow[path] = _Slow(state.signature, wait, now + wait)
            else:
                slow[path] = known
        self._slow = slow

    def _look(self, path: str, retry: bool, foreign: dict[str, Signature]) -> FileState | Signature | None:
        """What is known of a file without reading it; its signature when it has to be read; None for none of ours."""
        known = self._known.get(path)
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            return None if _has_vanished(path, error) else FileState(UNSETTLED, None, _unreadable(error))
        signature = _signature(status)
        if not stat.S_ISREG(status.st_mode):
            return FileState(signature, None, _NOT_A_FILE)
        if self._foreign.get(path) == signature:
            foreign[path] = signature
            return None
        if (
            known is not None
            and known.signature == signature
            and not (known.rejection and self._again(path, known, retry))
        ):
            return known
        return signature

    def _again(self, path: str, known: FileState, retry: bool) -> bool:
        """Whether an unchanged but rejected file deserves another try, `retry` being that passphrases are new."""
        assert known.rejection is not None
        if known.rejection.reason is RejectReason.UNLOCK_TIMEOUT and path in self._slow:
            return retry or time.monotonic() >= self._slow[path].again_at
        return retry or known.rejection.reason in (RejectReason.UNREADABLE, RejectReason.UNLOCK_PENDING)

    def _read_all(self, paths: Sequence[str]) -> list[FileState | None]:
        """Read and parse files, in several processes when there are many."""
        return spread(paths, lambda share: [self._read(path) for path in share], _encoder.encode, _decoder.decode)

    def _shared(self, state: FileState) -> FileState:
        """The same state with certificates that are known already as the one object there is of each."""
        if state.content is None:
            return state
        self._proven.update(key.spki for key in state.content.keys)
        certificates = tuple(self._certificates.setdefault(one.fingerprint, one) for one in state.content.certificates)
        return FileState(state.signature, FileContent(certificates, state.content.keys), None)

    def _read(self, path: str) -> FileState | None:
        """Read and parse one file; None when it holds nothing of ours and does not claim to, or is gone by now."""
        signature = UNSETTLED
        try:
            claims = path.lower().endswith(SUFFIXES)
            signature, data = _read_settled(path, whatever=claims)
            if not claims and not looks_like_ours(data):
                return None
            content = parse_file(data, self._passphrases, self._unlock)
            for key in content.keys:
                if key.spki not in self._proven:
                    prove_key(key)
            return FileState(signature, content, None)
        except FileRejected as rejected:
            return FileState(signature, None, Rejection(rejected.reason, rejected.message))
        except OSError as error:
            return None if _has_vanished(path, error) else FileState(signature, None, _unreadable(error))
        except ENDINGS:
            raise
        except BaseException as error:  # whatever a library makes of hostile bytes costs this file, not all of them
            message = f"cannot be parsed ({type(error).__name__}); replace it"
            return FileState(signature, None, Rejection(RejectReason.MALFORMED, message))


def _is_pending(state: FileState | None) -> bool:
    return state is not None and state.rejection is not None and state.rejection.reason is RejectReason.UNLOCK_PENDING


def _certificates(state: FileState) -> tuple[Certificate, ...]:
    return state.content.certificates if state.content is not None else ()


def _read_settled(path: str, *, whatever: bool) -> tuple[Signature, bytes]:
    """The content of a regular file and the signature it had while it was read.

    Unless `whatever` is wanted, only the HEAD of a file that does not begin like one of ours.

    Opened without blocking, so that a FIFO or device dropped into the directory holds nobody up. The signature is
    taken before the read: a write that lands in between changes it, and the next scan reads again. File times move in
    ticks of the kernel's clock, so a file written a moment ago may change once more without its signature showing it:
    such a file counts as unsettled.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileRejected(_NOT_A_FILE.reason, _NOT_A_FILE.message)
        settled = abs(time.time_ns() - status.st_mtime_ns) > TICK_NS  # also for a time to come, which is no moment ago
        signature = _signature(status) if settled else UNSETTLED
        head = os.read(descriptor, HEAD)
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


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _has_vanished(path: str, error: OSError) -> bool:
    """Whether a file was removed after its directory was listed; a link that points to nothing is still there."""
    return error.errno == errno.ENOENT and not os.path.islink(path)  # noqa: PTH114


def _unreadable(error: OSError) -> Rejection:
    return Rejection(RejectReason.UNREADABLE, of_file(error))
