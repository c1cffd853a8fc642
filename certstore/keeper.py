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
from collections.abc import Callable, Iterator

from certstore import default_certificate
from certstore.catalogue import Catalogue, Settings, Snapshot
from certstore.certified_key import CertifiedKey
from certstore.messages import (
    Applied,
    Change,
    FileProblem,
    Hello,
    ProtocolError,
    ReplicaState,
    Report,
    frame,
    parts,
    to_keeper,
)
from certstore.ranking import reason
from certstore.watch import Watcher

log = logging.getLogger("snigate.keeper")

VERIFY_AT_FIRST = 100  # chains verified before the first publication, beside those of certificates that compete
VERIFY_AT_ONCE = 500  # chains verified in one go while others wait for them
SWITCH_INTERVAL = 0.0005  # seconds a thread that parses may hold up the loop, which has subscribers to serve
LOGGED_AT_MOST = 20  # certificates named in the log for one change
MAX_BEHIND = 128 << 20  # bytes a subscriber may leave unread


class _Subscriber:
    """One connected worker or control process."""

    def __init__(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.hello = hello
        self.state = ReplicaState(hello.number, hello.pid, 0, 0, "")
        self._writer = writer

    def send(self, message: bytes) -> None:
        transport = self._writer.transport
        if transport.get_write_buffer_size() + len(message) > MAX_BEHIND:
            log.warning("%s %d does not read; it is disconnected", self.hello.role, self.hello.number)
            transport.abort()
        else:
            self._writer.write(message)


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
        self._swapped_at = 0.0
        self._swaps = {"applied": 0, "rejected": 0}
        self._subscribers: set[_Subscriber] = set()

    async def run(self) -> None:
        """Publish, listen, and keep both up for ever."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        # Before there is a watch or any other thread: see certstore.spread. The watch's start then asks for a second
        # scan, so that nothing slips through between the two.
        await self._refresh(scan=True, first=True)
        watch = asyncio.create_task(self._watcher.run())
        try:
            server = await asyncio.start_unix_server(self._serve, sock=self._listening)
            self._on_first(self._snapshot)
            async with server:
                while True:
                    await self._refresh(scan=await self._wait())
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _wait(self) -> bool:
        """Sleep until there is work: an event, the rescan, a file gone for long enough, or the clock.

        Returns whether that calls for a scan; not while there are only chains left to verify.
        """
        if self._snapshot.unverified and not self._watcher.changed.is_set():
            await asyncio.sleep(0)
            return False
        waits = [self._rescan, max(1.0, self._snapshot.again_at - time.time())]
        if self._snapshot.again_in is not None:
            waits.append(max(0.01, self._snapshot.again_in))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits)):  # not wait_for, which in Python 3.11 can lose a cancellation
                await self._watcher.changed.wait()
        return True

    async def _refresh(self, *, scan: bool, first: bool = False) -> None:
        if scan:
            self._watcher.changed.clear()
        before = self._snapshot
        try:
            after = self._first_build() if first else await asyncio.to_thread(self._build, scan)
        except Exception:
            log.exception("the certificate directories could not be looked at; what is served stays as it is")
            await asyncio.sleep(1)
            return
        if scan:
            self._scanned_at = time.time()
        self._note_problems(before, after)
        self._snapshot = after
        put = [
            one for fingerprint, one in after.certificates.items() if before.certificates.get(fingerprint) is not one
        ]
        retire = [fingerprint for fingerprint in before.certificates if fingerprint not in after.certificates]
        if put or retire or self._number == 0 or _default(before) != _default(after):
            self._publish(before, put, retire)
        self._report()

    def _first_build(self) -> Snapshot:
        """What everybody waits for: only as much is verified as does not keep them waiting."""
        default_certificate.ensure(self._settings.state_directory)
        self._catalogue.scan(time.monotonic())
        return self._catalogue.assess(time.time(), VERIFY_AT_FIRST)

    def _build(self, scan: bool) -> Snapshot:
        """In a thread: everything that takes time."""
        if scan:
            default_certificate.ensure(self._settings.state_directory)
            self._catalogue.scan(time.monotonic())
            self._watcher.look_at_targets(self._catalogue.files)
        return self._catalogue.assess(time.time(), VERIFY_AT_ONCE)

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
        self._log_change(before, put, retire)

    def _parts(self, put: list[CertifiedKey], retire: list[str], *, whole: bool) -> Iterator[Change]:
        rest = parts(put, retire)
        part = next(rest, None)
        while part is not None:
            following = next(rest, None)
            yield Change(
                number=self._number,
                whole=whole,
                last=following is None,
                put=part[0],
                retire=part[1],
                default_name=self._snapshot.default_name,
                made=self._snapshot.made,
            )
            part = following

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One subscriber's connection: everything at first, then what changes; it says what it has taken in."""
        subscriber: _Subscriber | None = None
        try:
            async with asyncio.timeout(5):
                hello = await to_keeper(reader)
            if not isinstance(hello, Hello):
                return
            subscriber = _Subscriber(hello, writer)
            for change in self._parts(list(self._snapshot.certificates.values()), [], whole=True):
                writer.write(frame(change if hello.role == "worker" else _without_keys(change)))
            self._subscribers.add(subscriber)
            self._report()
            while (said := await to_keeper(reader)) is not None:
                if isinstance(said, Applied):
                    subscriber.state = ReplicaState(
                        hello.number, hello.pid, said.change, said.certificates, said.digest
                    )
                    self._report()
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
                problems=[FileProblem(*problem) for problem in snapshot.problems],
                waiting=sorted(snapshot.waiting),
                unverified=snapshot.unverified,
                watching=self._watcher.watching,
                replicas=sorted(
                    (one.state for one in self._subscribers if one.hello.role == "worker"), key=lambda one: one.worker
                ),
            )
        )
        for subscriber in told:
            subscriber.send(message)

    def _note_problems(self, before: Snapshot, after: Snapshot) -> None:
        """Log each problem once, and once more when it is gone."""
        known, found = set(before.problems), set(after.problems)
        for problem in after.problems:
            if problem not in known:
                log.error("%s: %s [%s]", problem.path, problem.message, problem.reason)
        still = {problem.path for problem in found}
        for problem in before.problems:
            if problem not in found and problem.path not in still:
                log.info("%s: is in order again", problem.path)
        if found - known:
            self._swaps["rejected"] += 1

    def _log_change(self, before: Snapshot, put: list[CertifiedKey], retire: list[str]) -> None:
        now = time.time()
        fresh = [one for one in put if one.fingerprint not in before.certificates]
        for one in fresh[:LOGGED_AT_MOST]:
            log.info(
                "serving certificate %s for %s (%s) from %s",
                one.fingerprint[:16],
                ", ".join((*one.names, *one.addresses)) or "no name",
                reason(one, now),
                one.paths[0],
            )
        for fingerprint in retire[:LOGGED_AT_MOST]:
            one = before.certificates[fingerprint]
            log.info("retired certificate %s for %s", fingerprint[:16], ", ".join(one.names) or "no name")
        if len(fresh) > LOGGED_AT_MOST or len(retire) > LOGGED_AT_MOST:
            log.info("change %d: %d new certificates, %d retired", self._number, len(fresh), len(retire))


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
