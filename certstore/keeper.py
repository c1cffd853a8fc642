"""The keeper: the one process that reads certificate files, and tells the others what changed.

A change is built and checked aside (in a thread; the loop goes on answering), compared with what was published last,
numbered, and sent to every subscriber in parts. A subscriber that connects is first sent everything. Whoever cannot
keep up is disconnected and catches up by connecting again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

from certstore import change_log, default_certificate
from certstore.catalogue import Catalogue, Settings, Snapshot
from certstore.certified_key import CertifiedKey
from certstore.errors import ENDINGS, CertstoreError
from certstore.messages import (
    Applied,
    Change,
    FileProblem,
    Hello,
    ProtocolError,
    ReplicaState,
    Report,
    Role,
    frame,
    parts,
    to_keeper,
)
from certstore.subscriber import Subscriber
from certstore.watch import Watcher

log = logging.getLogger("snigate.keeper")
T = TypeVar("T")

VERIFY_AT_FIRST = 100  # chains verified before the first publication, beside those of certificates that compete
VERIFY_AT_ONCE = 500  # chains verified in one go while others wait for them
UNLOCK_AT_FIRST = 2.0  # seconds for decrypting before the first publication
UNLOCK_AT_ONCE = 10.0  # seconds for decrypting in one scan while others wait for it
MAX_PAUSE = 1.0  # seconds between scans, each of which is followed by a pause as long as it took
FIRST_CATCH_UP = 5.0  # seconds that the second scan, and what is left to verify, wait for the first subscribers
SOON = 0.02  # seconds
SWITCH_INTERVAL = 0.0005  # seconds a thread that parses may hold up the loop, which has subscribers to serve
REPORTED = 4 << 20  # characters of problems, and of waiting files, in a report


class Keeper:
    """Publishes what a catalogue finds. `on_first` is called once, when everything found at start is published."""

    def __init__(
        self,
        settings: Settings,
        listening: socket.socket,
        rescan: float,
        on_first: Callable[[Snapshot], None],
    ) -> None:
        self._settings = settings
        self._catalogue = Catalogue(settings)
        self._listening = listening
        self._rescan = rescan
        self._on_first = on_first
        trust = self._catalogue.trust.paths
        self._watcher = Watcher(
            (*settings.scanned, *(path for path in trust if path.is_dir())),
            (*settings.looked_at, *(path for path in trust if not path.is_dir())),
        )
        self._snapshot = Snapshot()
        self._number = 0
        self._scanned_at = 0.0
        self._walk_at = 0.0  # by the monotonic clock, when everything is to be looked at again
        self._not_before = 0.0  # by the monotonic clock
        self._swapped_at = 0.0
        self._swaps = {"applied": 0, "rejected": 0}
        self._subscribers: set[Subscriber] = set()
        self._complaint = ""  # about the default certificate

    async def run(self) -> None:
        """Publish, listen, and keep both up for ever."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._watcher.ask()
        await self._refresh(scan=True, first=True)  # before there is any other thread: see certstore.spread
        async with await asyncio.start_unix_server(self._serve, sock=self._listening):
            self._on_first(self._snapshot)
            await self._caught_up("worker", "control")
            # The watch's start asks for a second scan, so that nothing slips through between the two.
            watch = asyncio.create_task(self._watcher.run())
            try:
                while True:
                    scan = await self._wait()
                    await self._refresh(scan=scan)
            finally:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch

    async def _caught_up(self, *roles: Role) -> None:
        """Let those who wait for everything there is have the processors to themselves, for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_CATCH_UP):
                await asyncio.sleep(SOON)
                # Looking now and then costs less than being told of each message.
                while self._behind(roles):  # noqa: ASYNC110
                    await asyncio.sleep(SOON)

    def _behind(self, roles: Collection[Role]) -> bool:
        return any(one.hello.role in roles and one.state.change < self._number for one in self._subscribers)

    async def _wait(self) -> bool:
        """Sleep until there is work: an event, the rescan, a file gone for long enough, or the clock.

        Returns whether that calls for a scan; not while there are only chains left to verify, nor so soon after a scan
        that whoever writes files without end could keep the directories being scanned.
        """
        pause = self._not_before - time.monotonic()
        if self._snapshot.unverified and (pause > 0 or not self._watcher.changed.is_set()):
            await asyncio.sleep(0)
            return False
        await asyncio.sleep(max(0.0, pause))
        waits = [self._walk_at - time.monotonic(), max(1.0, self._snapshot.again_at - time.time())]
        if self._snapshot.again_in is not None:
            waits.append(max(0.01, self._snapshot.again_in))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits)):  # not wait_for, which in Python 3.11 can lose a cancellation
                await self._watcher.changed.wait()
        return True

    async def _refresh(self, *, scan: bool, first: bool = False) -> None:
        before = self._snapshot
        started = time.monotonic()
        if scan and started >= self._walk_at:
            self._watcher.ask()
        events = self._watcher.take() if scan else frozenset()
        try:
            after = self._first_build() if first else await asyncio.to_thread(self._build, scan, events)
        except (*ENDINGS, asyncio.CancelledError):
            raise
        except BaseException:  # a panic in a library's Rust code is no Exception
            log.exception("the certificate directories could not be looked at; what is served stays as it is")
            await asyncio.sleep(1)
            self._watcher.ask()
            return
        if scan:
            self._scanned_at = time.time()
            ended = time.monotonic()
            self._not_before = ended + (0.0 if first else min(MAX_PAUSE, ended - started))
            if events is None:
                self._walk_at = ended + self._rescan
        if change_log.note_problems(before, after):
            self._swaps["rejected"] += 1
        self._snapshot = after
        put = [after.certificates[fingerprint] for fingerprint in after.changed & after.certificates.keys()]
        put.sort(key=lambda one: one.paths)
        retire = [fingerprint for fingerprint in after.changed if fingerprint not in after.certificates]
        if put or retire or self._number == 0 or _default(before) != _default(after):
            self._publish(before, put, retire)
        self._report()

    def _first_build(self) -> Snapshot:
        """What everybody waits for: only as much is verified as does not keep them waiting."""
        self._ensure_default()
        self._catalogue.scan(time.monotonic(), UNLOCK_AT_FIRST)
        return self._catalogue.assess(time.time(), VERIFY_AT_FIRST)

    def _build(self, scan: bool, events: frozenset[str] | None) -> Snapshot:
        """In a thread: everything that takes time."""
        if scan:
            self._ensure_default()
            self._catalogue.scan(time.monotonic(), UNLOCK_AT_ONCE, events)
            self._watcher.look_at_targets(self._catalogue.outside)
        return self._catalogue.assess(time.time(), VERIFY_AT_ONCE)

    def _ensure_default(self) -> None:
        """Have a certificate for the names that no other covers; those that there are do not depend on it."""
        complaint = ""
        try:
            default_certificate.ensure(self._settings.state_directory)
        except CertstoreError as error:
            complaint = str(error)
        if complaint and complaint != self._complaint:
            log.error("%s; until then, names without a certificate may be refused", complaint)
        self._complaint = complaint

    def _publish(self, before: Snapshot, put: list[CertifiedKey], retire: list[str]) -> None:
        self._number += 1
        self._swapped_at = time.time()
        self._swaps["applied"] += 1
        changes = list(self._parts(put, retire, whole=False))
        for role in ("worker", "control"):
            told = [one for one in self._subscribers if one.hello.role == role]
            for change in changes if told else ():
                message = frame(change if role == "worker" else _without_keys(change))
                for subscriber in told:
                    subscriber.send(message)
        change_log.note_change(self._number, before, self._snapshot, put, retire, self._catalogue.holds)

    def _parts(self, put: Iterable[CertifiedKey], retire: list[str], *, whole: bool) -> Iterator[Change]:
        """A change of what is served now, in parts, which may be asked for when that is another."""
        number, snapshot = self._number, self._snapshot

        def change(part: tuple[list[CertifiedKey], list[str]], *, last: bool) -> Change:
            return Change(number, whole, last, *part, snapshot.default_name, snapshot.made)

        def numbered() -> Iterator[Change]:
            rest = parts(put, retire)
            part = next(rest)
            for following in rest:
                yield change(part, last=False)
                part = following
            yield change(part, last=True)

        return numbered()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One subscriber's connection: everything at first, then what changes; it says what it has taken in."""
        subscriber: Subscriber | None = None
        try:
            async with asyncio.timeout(5):
                hello = await to_keeper(reader)
            if not isinstance(hello, Hello):
                return
            subscriber = Subscriber(hello, writer)
            self._subscribers.add(subscriber)
            if hello.role == "control":  # nobody's connection waits for it
                await self._caught_up("worker")
            self._report()
            changes = self._parts(self._snapshot.certificates.values(), [], whole=True)
            await subscriber.catch_up(frame(one if hello.role == "worker" else _without_keys(one)) for one in changes)
            while (said := await to_keeper(reader)) is not None:
                if isinstance(said, Applied):
                    subscriber.state = ReplicaState(
                        hello.number, hello.pid, said.change, said.certificates, said.digest
                    )
                    self._report()
        except ConnectionError:
            pass  # a process that ended, which is the supervisor's business
        except (ProtocolError, OSError, TimeoutError) as error:
            log.warning("a subscriber's connection ended: %s", error)
        finally:
            if subscriber is not None:
                self._subscribers.discard(subscriber)
                self._report()
            writer.close()

    def _report(self) -> None:
        """Tell control how things stand."""
        told = [one for one in self._subscribers if one.hello.role == "control"]
        if not told:
            return
        snapshot = self._snapshot
        message = frame(
            Report(
                change=self._number,
                scanned_at=self._scanned_at,
                swapped_at=self._swapped_at,
                swaps=self._swaps,
                problems=self._reported_problems(),
                waiting=list(_within(REPORTED, sorted(snapshot.waiting), len)),
                unverified=snapshot.unverified,
                watching=self._watcher.watching,
                replicas=sorted(
                    (one.state for one in self._subscribers if one.hello.role == "worker"), key=lambda one: one.worker
                ),
            )
        )
        for subscriber in told:
            subscriber.send(message)

    def _reported_problems(self) -> list[FileProblem]:
        """As many as a report has room for, and one more that says how many were left out."""
        problems = self._snapshot.problems
        told = [FileProblem(*one) for one in _within(REPORTED, problems, lambda one: len(one.path) + len(one.message))]
        if len(told) < len(problems):
            message = f"{len(problems) - len(told)} more problems are not listed; correct those that are"
            told.append(FileProblem(str(self._settings.state_directory), "too_many", message))
        return told


def _within(size: int, items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[T]:
    """The first items, as far as they have `size` together."""
    for item in items:
        size -= size_of(item)
        if size < 0:
            return
        yield item


def _default(snapshot: Snapshot) -> tuple[str | None, str | None]:
    return snapshot.default_name, snapshot.made.fingerprint if snapshot.made is not None else None


def _without_keys(change: Change) -> Change:
    return Change(
        number=change.number,
        whole=change.whole,
        last=change.last,
        put=[one.without_key() for one in change.put],
        retire=change.retire,
        default_name=change.default_name,
        made=change.made.without_key() if change.made is not None else None,
    )
