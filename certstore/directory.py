"""Certificate directories, read: what each file in them holds, and which files are gone.

A scan walks the directories and looks at every file's signature (device, inode, size, times); only a file whose
signature changed is read again. Symbolic links are followed, each resolved once per read. Names that start with a
dot are not entered by themselves, so a Kubernetes mount is read through its links, never through `..data` as well.

What a scan cannot see is not gone: files below a directory that is missing or unreadable are reported as they were
last seen. A file is gone only when its directory was read and did not list it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

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
from certstore.unreadable import LEADS_OUT, of_file

SUFFIXES = frozenset({".pem", ".crt", ".cer", ".cert", ".key", ".der", ".p12", ".pfx", ".chain", ".ca-bundle"})

Signature = tuple[int, int, int, int, int]  # device, inode, size, mtime and ctime in nanoseconds
UNSETTLED: Signature = (0, 0, 0, 0, 0)  # no file has it: what carries it is read again at the next scan
TICK_NS = 50_000_000


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


class Scan(NamedTuple):
    """What the directories hold now."""

    files: dict[str, FileState]  # by path as found (links not resolved); files that are none of ours are left out
    unseen: frozenset[str]  # of `files`, those in a directory that could not be read now: as they were last seen
    unreadable: tuple[tuple[str, int], ...]  # directories that could not be read: path, and errno or LEADS_OUT


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

    def scan(self) -> Scan:
        """Walk all directories; the result is what they hold now. Never raises for what it finds there."""
        passphrases = tuple(self._passphrases_source())
        retry = passphrases != tuple(self._passphrases)
        self._passphrases = passphrases
        files: dict[str, FileState] = {}
        foreign: dict[str, Signature] = {}
        unreadable: list[tuple[str, int]] = []
        changed: dict[str, Signature] = {}
        for path in self._walk(unreadable):
            looked = self._look(path, retry, foreign)
            if isinstance(looked, FileState):
                files[path] = looked
            elif looked is not None:
                changed[path] = looked
        for path, state in zip(changed, self._read_all(tuple(changed)), strict=True):
            if state is None:
                foreign[path] = changed[path]
            else:
                files[path] = self._shared(state)
        lost = tuple(directory.rstrip("/") + "/" for directory, _ in unreadable)
        unseen = frozenset(path for path in self._known if path not in files and path.startswith(lost)) if lost else ()
        files.update((path, self._known[path]) for path in unseen)
        if files != self._known:
            self._certificates = {one.fingerprint: one for state in files.values() for one in _certificates(state)}
        self._known, self._foreign = files, foreign
        return Scan(files, frozenset(unseen), tuple(unreadable))

    def _walk(self, unreadable: list[tuple[str, int]]) -> Iterator[str]:
        """Every candidate file's path, depth first and sorted; a directory reached twice is entered once."""
        entered: set[tuple[int, int]] = set()
        outside = _outside(self._roots)
        pending = list(reversed(self._roots))
        while pending:
            directory = pending.pop()
            try:
                status = os.stat(directory)  # noqa: PTH116 - strings are kept through the walk, for speed
                if (status.st_dev, status.st_ino) in entered:
                    continue
                if (status.st_dev, status.st_ino) in outside and directory not in self._roots:
                    unreadable.append((directory, LEADS_OUT))
                    continue
                entered.add((status.st_dev, status.st_ino))
                if not stat.S_ISDIR(status.st_mode):
                    unreadable.append((directory, errno.ENOTDIR))
                    continue
                with os.scandir(directory) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:  # something above it that is no directory means that it is not there
                unreadable.append((directory, errno.ENOENT if error.errno == errno.ENOTDIR else error.errno or 0))
                continue
            below = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_directory(entry):
                    below.append(entry.path)
                else:
                    yield entry.path
            pending.extend(reversed(below))

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
        if known is not None and known.signature == signature and not (known.rejection and _again(known, retry)):
            return known
        return signature

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
            signature, data = _read_settled(path)
            if not looks_like_ours(data) and Path(path).suffix.lower() not in SUFFIXES:
                return None
            content = parse_file(data, self._passphrases)
            for key in content.keys:
                if key.spki not in self._proven:
                    prove_key(key)
            return FileState(signature, content, None)
        except FileRejected as rejected:
            return FileState(signature, None, Rejection(rejected.reason, rejected.message))
        except OSError as error:
            return None if _has_vanished(path, error) else FileState(signature, None, _unreadable(error))
        except Exception as error:  # whatever a library makes of hostile bytes costs this file, not all of them
            message = f"cannot be parsed ({type(error).__name__}); replace it"
            return FileState(signature, None, Rejection(RejectReason.MALFORMED, message))


def _certificates(state: FileState) -> tuple[Certificate, ...]:
    return state.content.certificates if state.content is not None else ()


def _again(known: FileState, retry: bool) -> bool:
    """Whether an unchanged but rejected file deserves another try: after new passphrases, or after a failed read."""
    assert known.rejection is not None
    return retry or known.rejection.reason in (RejectReason.UNREADABLE, RejectReason.UNLOCK_TIMEOUT)


def _read_settled(path: str) -> tuple[Signature, bytes]:
    """The content of a regular file and the signature it had while it was read.

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
        if status.st_size > MAX_FILE_SIZE:
            raise FileRejected(
                RejectReason.OVERSIZED,
                f"has {status.st_size} bytes, more than the {MAX_FILE_SIZE} a certificate file may have",
            )
        chunks = []
        while chunk := os.read(descriptor, 1 << 16):
            chunks.append(chunk)
            if sum(map(len, chunks)) > MAX_FILE_SIZE:
                raise FileRejected(RejectReason.OVERSIZED, f"grew beyond {MAX_FILE_SIZE} bytes while it was read")
        settled = time.time_ns() - status.st_mtime_ns > TICK_NS
        return _signature(status) if settled else UNSETTLED, b"".join(chunks)
    finally:
        os.close(descriptor)


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _outside(roots: Sequence[str]) -> set[tuple[int, int]]:
    """Directories that no link may lead a scan into: what lies above the roots, and the kernel's file systems."""
    found = set()
    for path in {"/proc", "/sys", "/dev", *(str(above) for root in roots for above in Path(root).parents)}:
        with contextlib.suppress(OSError):
            status = os.stat(path)  # noqa: PTH116
            found.add((status.st_dev, status.st_ino))
    return found


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _has_vanished(path: str, error: OSError) -> bool:
    """Whether a file was removed after its directory was listed; a link that points to nothing is still there."""
    return error.errno == errno.ENOENT and not os.path.islink(path)  # noqa: PTH114


def _unreadable(error: OSError) -> Rejection:
    return Rejection(RejectReason.UNREADABLE, of_file(error))
