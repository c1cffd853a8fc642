"""Certificate directories, read: what each file in them holds, and which files are gone.

A scan walks the directories and looks at every file's signature (device, inode, size, times); only a file whose
signature changed is read again. Symbolic links are followed, each resolved once per read. Names that start with a
dot are not entered by themselves, so a Kubernetes mount is read through its links, never through `..data` as well.

What a scan cannot see is not gone: files below a directory that is missing or unreadable are reported as they were
last seen. A file is gone only when its directory was read and did not list it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from certstore.errors import RejectReason
from certstore.file_reader import look_at, read_file
from certstore.file_state import Disproof, FileState, Signature
from certstore.proofs import Proofs
from certstore.scan import Scan
from certstore.sharing import Shared, pack, unpack
from certstore.slow_files import SlowFiles
from certstore.spread import WORTH_IT, spread
from certstore.tree import Tree
from certstore.unlock import Budget
from certstore.walk import Walk


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
        self._proofs = Proofs()
        self._slow = SlowFiles()
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

    def scan(
        self,
        unlock_seconds: float = math.inf,
        events: Collection[str] | None = None,
        meanwhile: Callable[[Scan], object] = lambda _: None,
    ) -> Scan:
        """Look at the directories; the result is what they hold now. Never raises for what it finds there.

        With `events`, only at what a change at these paths may concern, else at everything. At most `unlock_seconds`
        go to decrypting; what is left then is rejected for now, and first at the next scan. The first scan tells
        `meanwhile` of what it has read so far, while other processes go on reading.
        """
        self._unlock = Budget(unlock_seconds)
        passphrases = tuple(self._passphrases_source())
        retry = passphrases != tuple(self._passphrases)
        self._passphrases = passphrases
        disproved = self._proofs.catch_up()
        damaged = self._reject(disproved)
        concerned = None
        if events is not None and self._known is not None and not retry:
            concerned = self._tree.concerned(events, self._known)
        if concerned is None:
            found = self._scan_all(retry, damaged, meanwhile)
        else:
            found = self._scan_some(concerned.union(damaged))
        return found._replace(disproved=disproved)

    def _reject(self, disproved: Iterable[Disproof]) -> set[str]:
        """Let files count as rejected whose content turned out to be damaged; those that still hold it."""
        known = self._known or {}
        damaged = set()
        for path, content, rejection in disproved:
            state = known.get(path)
            if state is not None and state.content is content:
                known[path] = FileState(state.signature, None, rejection)
                damaged.add(path)
        return damaged

    def _scan_all(self, retry: bool, damaged: Iterable[str], meanwhile: Callable[[Scan], object]) -> Scan:
        known = self._known
        walk = Walk(self._roots)
        files, foreign, pending = self._look_at(walk, retry, meanwhile)
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
            touched.update(damaged)
            touched.update(path for path in known if path not in files)
        self._known, self._foreign, self._unreadable = files, foreign, tuple(walk.unreadable)
        self._rejected = {path for path, state in files.items() if state.rejection is not None}
        self._restless = {path for path, state in files.items() if state.is_restless}
        self._slow.keep(self._rejected)
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
            _put_in(self._restless, path, state is not None and state.is_restless)
            if path not in self._rejected:
                self._slow.forget(path)
        return self._found(pending, concerned)

    def _found(self, pending: bool, touched: set[str] | None) -> Scan:
        assert self._known is not None
        return Scan(
            self._known,
            self._unseen,
            self._unreadable,
            pending or self._proofs.wanted,
            None if touched is None else frozenset(touched),
            frozenset(self._rejected),
        )

    def _look_at(
        self, paths: Iterable[str], retry: bool, meanwhile: Callable[[Scan], object] = lambda _: None
    ) -> tuple[dict[str, FileState], dict[str, Signature], bool]:
        """What these files hold, the signatures of those that are none of ours, and whether some are to be opened yet.

        Files that are gone are in neither.
        """
        files: dict[str, FileState] = {}
        foreign: dict[str, Signature] = {}
        if self._known is None:  # all are to be read, which tells as much as looking at them
            self._read_all(list(paths), files, meanwhile)
            return files, foreign, any(state.is_pending for state in files.values())
        changed: dict[str, Signature] = {}
        for path in paths:
            looked = self._look(path, self._known.get(path), retry, foreign)
            if isinstance(looked, FileState):
                files[path] = looked
            elif looked is not None:
                changed[path] = looked
        pending_before = {path for path in changed if (known := self._known.get(path)) is not None and known.is_pending}
        self._read_all(sorted(changed, key=lambda path: path not in pending_before), files)
        foreign.update((path, signature) for path, signature in changed.items() if path not in files)
        return files, foreign, any(path in files and files[path].is_pending for path in changed)

    def _look(
        self, path: str, known: FileState | None, retry: bool, foreign: dict[str, Signature]
    ) -> FileState | Signature | None:
        """What is known of a file without reading it; its signature when it has to be read; None for none of ours."""
        looked = look_at(path)
        if not isinstance(looked, Signature):
            return looked
        if self._foreign.get(path) == looked:
            foreign[path] = looked
            return None
        if (
            known is not None
            and known.signature == looked
            and not (known.rejection and self._again(path, known.rejection.reason, retry))
        ):
            return known
        return looked

    def _again(self, path: str, reason: RejectReason, retry: bool) -> bool:
        """Whether an unchanged but rejected file deserves another try, `retry` being that passphrases are new."""
        if retry or reason in (RejectReason.UNREADABLE, RejectReason.UNLOCK_PENDING):
            return True
        return reason is RejectReason.UNLOCK_TIMEOUT and self._slow.is_due(path)

    def _read_all(
        self, paths: Sequence[str], files: dict[str, FileState], meanwhile: Callable[[Scan], object] = lambda _: None
    ) -> None:
        """Read and parse files into `files`, in several processes when there are many; none of ours are left out."""
        later = self._known is None and len(paths) >= WORTH_IT
        prove = None if later else self._proofs.prove
        own = tuple(f"{root.rstrip('/')}/" for root in self._roots if _is_own(root))

        def read(share: Sequence[str]) -> list[FileState | None]:
            return [
                read_file(path, self._passphrases, self._unlock, prove, as_its_user=path.startswith(own))
                for path in share
            ]

        for share, states in spread(paths, read, pack, unpack):
            for path, found in zip(share, states, strict=True):
                if found is None:
                    continue
                state = files[path] = self._shared.share(found)
                self._slow.note(path, state)
                if state.content is not None and state.content.keys:
                    if later:
                        self._proofs.put_off(path, state.content)
                    else:
                        self._proofs.remember(state.content)
            meanwhile(Scan(files, frozenset(), (), touched=frozenset(share)))


def _is_own(directory: str) -> bool:
    """Whether it is this user's, and so every other process's of that user: what they link there they must not have
    read by a right that this process alone has."""
    try:
        return os.stat(directory).st_uid == os.geteuid() != 0  # noqa: PTH116 - as in certstore.walk
    except OSError:
        return False


def _put_in(paths: set[str], path: str, whether: bool) -> None:
    if whether:
        paths.add(path)
    else:
        paths.discard(path)
