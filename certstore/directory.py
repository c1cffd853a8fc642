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
import struct
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from certstore.errors import ENDINGS
from certstore.file_state import UNSETTLED, FileState, Rejection, Signature
from certstore.load import (
    MAX_FILE_SIZE,
    FileRejected,
    RejectReason,
    looks_like_ours,
    parse_file,
    prove_key,
)
from certstore.sharing import Shared, pack, unpack
from certstore.spread import spread
from certstore.tree import Tree
from certstore.unlock import Budget
from certstore.unreadable import of_file
from certstore.walk import Walk

SUFFIXES = (".pem", ".crt", ".cer", ".cert", ".key", ".der", ".p12", ".pfx", ".chain", ".ca-bundle")

TICK_NS = 50_000_000
HEAD = 4096  # bytes by which a file without one of these suffixes is taken for ours or not
RETRY_SLOW = 60.0  # seconds until a file that took too long to decrypt is tried again, then twice as long each time...
RETRY_SLOW_AT_MOST = 3600.0  # ...up to this

_pack = struct.Struct("=QQqqq").pack
_TEXT_FORMS = (b"Certificate:", b"Private-Key:", b"RSA Private-Key:")  # what `openssl -text` puts before the PEM


_NOT_A_FILE = Rejection(RejectReason.NOT_A_FILE, "is not a regular file; remove it from the directory")


class _Slow(NamedTuple):
    """A file that took too long to decrypt: as it was then, how long to leave it alone, and until when (monotonic)."""

    signature: Signature
    wait: float
    again_at: float


class Scan(NamedTuple):
    """What the directories hold now. `files` is the scanner's own, and is what it is only until the next scan."""

    files: Mapping[str, FileState]  # by path as found (links not resolved); files that are none of ours are left out
    unseen: frozenset[str]  # of `files`, those in a directory that could not be read now: as they were last seen
    unreadable: tuple[tuple[str, int], ...]  # directories not (wholly) read: path, and errno or what stands for one
    pending: bool = False  # files are left to decrypt, by another scan
    touched: frozenset[str] | None = None  # the paths that may have other content than at the scan before; None: all
    unusable: frozenset[str] | None = None  # paths of `files` that are rejected; None: to be found out

    @property
    def rejected(self) -> Iterator[tuple[str, FileState]]:
        """Files that cannot be used."""
        for path in self.files if self.unusable is None else self.unusable:
            if (state := self.files[path]).rejection is not None:
                yield path, state


class DirectoryScanner:
    """Scans certificate directories, remembering signatures between scans.

    `passphrases` is called at each scan; when its answer changes, files that wanted a passphrase are tried again.
    """

    def __init__(self, roots: Sequence[Path], passphrases: Callable[[], Sequence[bytes]] = tuple) -> None:
        self._roots = tuple(str(root) for root in roots)
        self._tree = Tree(self._roots)
        self._passphrases_source = passphrases
        self._passphrases: Sequence[bytes] = ()
        self._known: dict[str, FileState] | None = None  # None: not scanned yet
        self._foreign: dict[str, Signature] = {}  # files that hold nothing of ours, such as a README
        self._unseen: frozenset[str] = frozenset()
        self._unreadable: tuple[tuple[str, int], ...] = ()
        self._rejected: set[str] = set()
        self._restless: set[str] = set()  # files to be looked at by each scan
        self._shared = Shared()
        self._proven: set[bytes] = set()  # public RSA keys (SPKI hashes) whose private key has proved itself
        self._slow: dict[str, _Slow] = {}  # files that took too long to decrypt
        self._unlock = Budget(math.inf)

    @property
    def files(self) -> Collection[str]:
        """Every file of ours that the last scan found."""
        return self._known or ()

    def holds(self, path: str) -> bool:
        """Whether the last scan found this file."""
        return path in self.files

    @property
    def outside(self) -> Iterable[str]:
        """Files for which there are no events, since they lie outside the directories; not all of very many."""
        return self._tree.outside

    def scan(self, unlock_seconds: float = math.inf, events: Collection[str] | None = None) -> Scan:
        """Look at the directories; the result is what they hold now. Never raises for what it finds there.

        With `events`, only at what a change at these paths may concern, else at everything. At most `unlock_seconds`
        go to decrypting; what is left then is rejected for now, and first at the next scan.
        """
        self._unlock = Budget(unlock_seconds)
        passphrases = tuple(self._passphrases_source())
        retry = passphrases != tuple(self._passphrases)
        self._passphrases = passphrases
        concerned = None
        if events is not None and self._known is not None and not retry:
            concerned = self._tree.concerned(events, self._known)
        return self._scan_all(retry) if concerned is None else self._scan_some(concerned)

    def _scan_all(self, retry: bool) -> Scan:
        known = self._known
        walk = Walk(self._roots)
        files, foreign, pending = self._look_at(walk, retry)
        lost = tuple(directory.rstrip("/") + "/" for directory, _ in walk.unreadable)
        if lost and known:
            unseen = {path: state for path, state in known.items() if path not in files and path.startswith(lost)}
            files.update(unseen)
            self._unseen = frozenset(unseen)
        else:
            self._unseen = frozenset()
        touched = None
        if known is not None:
            touched = {path for path, state in files.items() if known.get(path) is not state}
            touched.update(path for path in known if path not in files)
        self._known, self._foreign, self._unreadable = files, foreign, tuple(walk.unreadable)
        self._rejected = {path for path, state in files.items() if state.rejection is not None}
        self._restless = {path for path, state in files.items() if _is_restless(state)}
        self._slow = {path: slow for path, slow in self._slow.items() if path in self._rejected}
        if touched:
            self._shared.keep(state.content for state in files.values() if state.content is not None)
        self._tree.adopt(walk, touched)
        return self._found(pending, touched)

    def _scan_some(self, concerned: set[str]) -> Scan:
        assert self._known is not None
        concerned |= self._restless - self._unseen
        files, foreign, pending = self._look_at(concerned, retry=False)
        for path in concerned:
            state = files.get(path)
            if state is None:
                self._known.pop(path, None)
            else:
                self._known[path] = state
            if path in foreign:
                self._foreign[path] = foreign[path]
            else:
                self._foreign.pop(path, None)
            _put_in(self._rejected, path, state is not None and state.rejection is not None)
            _put_in(self._restless, path, state is not None and _is_restless(state))
            if path not in self._rejected:
                self._slow.pop(path, None)
        return self._found(pending, concerned)

    def _found(self, pending: bool, touched: set[str] | None) -> Scan:
        assert self._known is not None
        return Scan(
            self._known,
            self._unseen,
            self._unreadable,
            pending,
            None if touched is None else frozenset(touched),
            frozenset(self._rejected),
        )

    def _look_at(self, paths: Iterable[str], retry: bool) -> tuple[dict[str, FileState], dict[str, Signature], bool]:
        """What these files hold, the signatures of those that are none of ours, and whether some are to be opened yet.

        Files that are gone are in neither.
        """
        known = self._known or {}
        files: dict[str, FileState] = {}
        foreign: dict[str, Signature] = {}
        changed: dict[str, Signature] = {}
        for path in paths:
            looked = self._look(path, known.get(path), retry, foreign)
            if isinstance(looked, FileState):
                files[path] = looked
            elif looked is not None:
                changed[path] = looked
        reading = sorted(changed, key=lambda path: not _is_pending(known.get(path)))
        for path, state in zip(reading, self._read_all(reading), strict=True):
            if state is None:
                foreign[path] = changed[path]
            else:
                files[path] = self._shared.share(state)
        self._note_slow(files, changed)
        return files, foreign, any(_is_pending(files.get(path)) for path in reading)

    def _note_slow(self, files: dict[str, FileState], tried: Container[str]) -> None:
        """When to try those again that took too long to decrypt; a file that changed is tried at once."""
        now = time.monotonic()
        for path, state in files.items():
            if state.rejection is None or state.rejection.reason is not RejectReason.UNLOCK_TIMEOUT:
                continue
            known = self._slow.get(path)
            if known is None or known.signature != state.signature:
                self._slow[path] = _Slow(state.signature, RETRY_SLOW, now + RETRY_SLOW)
            elif path in tried:
                wait = min(2 * known.wait, RETRY_SLOW_AT_MOST)
                self._slow[path] = _Slow(state.signature, wait, now + wait)

    def _look(
        self, path: str, known: FileState | None, retry: bool, foreign: dict[str, Signature]
    ) -> FileState | Signature | None:
        """What is known of a file without reading it; its signature when it has to be read; None for none of ours."""
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
        states = spread(paths, lambda share: [self._read(path) for path in share], pack, unpack)
        for state in states:
            if state is not None and state.content is not None:
                self._proven.update(key.spki for key in state.content.keys if key.key_type.startswith("rsa-"))
        return states

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


def _is_restless(state: FileState) -> bool:
    """Whether a file may be another at the next scan although nothing tells of a change."""
    if state.rejection is None:
        return state.signature == UNSETTLED
    return state.signature == UNSETTLED or state.rejection.reason in (
        RejectReason.UNREADABLE,
        RejectReason.UNLOCK_PENDING,
        RejectReason.UNLOCK_TIMEOUT,
    )


def _put_in(paths: set[str], path: str, whether: bool) -> None:
    if whether:
        paths.add(path)
    else:
        paths.discard(path)


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
    return _pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _has_vanished(path: str, error: OSError) -> bool:
    """Whether a file was removed after its directory was listed; a link that points to nothing is still there."""
    return error.errno == errno.ENOENT and not os.path.islink(path)  # noqa: PTH114


def _unreadable(error: OSError) -> Rejection:
    return Rejection(RejectReason.UNREADABLE, of_file(error))
