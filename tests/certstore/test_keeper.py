"""The keeper and its subscribers, over a real Unix socket in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from certstore import default_certificate
from certstore.catalogue import Catalogue, Settings, Snapshot
from certstore.certificate import Certificate
from certstore.keeper import SOON, Keeper
from certstore.messages import Applied, Change, Hello, Report, Role, frame, from_keeper
from certstore.replica import Replica
from certstore.trust import TrustStore
from tests.support.pki import Pair, put, self_signed

PATIENCE = 20.0


class Running:
    """A keeper that runs in this event loop, and where to reach it."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.certs = self.state / "certs"
        self.certs.mkdir(parents=True, exist_ok=True)
        self.path = self.state / "keeper.sock"
        self.first: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listening.bind(str(self.path))
        listening.listen()
        self.keeper = Keeper(Settings(self.state, trust=()), listening, 60.0, self.first.set_result)

    @contextlib.asynccontextmanager
    async def following(self, role: Role = "worker") -> AsyncIterator[Replica]:
        """A replica that follows this keeper and has caught up once."""
        replica = Replica()
        task = asyncio.create_task(replica.follow(self.path, role, 0))
        try:
            await asyncio.wait_for(replica.ready.wait(), PATIENCE)
            yield replica
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Running]:
    kept = Running(directory)
    task = asyncio.create_task(kept.keeper.run())
    try:
        await asyncio.wait_for(kept.first, PATIENCE)
        yield kept
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


def serves(replica: Replica, pair: Pair, name: str) -> bool:
    selection = replica.selector.select(name)
    return selection is not None and selection.certificate.fingerprint == pair.fingerprint


def test_a_subscriber_is_sent_everything_and_then_what_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new = self_signed("a.example", not_after=1000), self_signed("a.example", not_after=2000)
        async with running(tmp_path) as kept, kept.following() as replica:
            old.write(kept.certs, "old")
            await until(lambda: serves(replica, old, "a.example"), "the first certificate arrives")
            new.write(kept.certs, "new")
            await until(lambda: serves(replica, new, "a.example"), "the better one takes over")
            for path in kept.certs.glob("new*"):
                path.unlink()
            await until(lambda: serves(replica, old, "a.example"), "what is gone is retired")

    asyncio.run(scenario())


def test_two_replicas_that_hold_the_same_have_the_same_digest_whatever_their_history(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as kept, kept.following() as early:
            for number in range(3):
                self_signed(f"{number}.example").write(kept.certs, str(number))
                await until(lambda: len(early.index) == number + 1, "the change is taken in")  # noqa: B023
            async with kept.following() as late:
                assert late.digest == early.digest
                assert late.digest != Replica().digest

    asyncio.run(scenario())


def test_control_is_sent_no_private_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as kept:
            self_signed("a.example").write(kept.certs)
            async with kept.following("control") as control, kept.following("worker") as worker:
                await until(lambda: len(control.index) == 1 == len(worker.index), "both have caught up")
                assert all(one.key == b"" for one in control.index)
                assert all(one.key != b"" for one in worker.index)
                default = control.selector.select(None)
                assert default is not None
                assert default.certificate.key == b""

    asyncio.run(scenario())


def test_control_is_told_of_broken_files_and_of_what_each_worker_holds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as kept, kept.following("control") as control, kept.following() as worker:
            broken = kept.certs / "broken.pem"
            put(broken, b"-----BEGIN CERTIFICATE-----\nMIIB")
            await until(lambda: control.report is not None and control.report.problems, "the file is named")
            assert control.report is not None
            assert [problem.path for problem in control.report.problems] == [str(broken)]
            pair = self_signed("a.example")
            put(broken, pair.combined_pem)
            await until(lambda: serves(worker, pair, "a.example"), "the file heals by itself")
            await until(
                lambda: (
                    control.report is not None
                    and not control.report.problems
                    and [one.digest for one in control.report.replicas] == [worker.digest]
                ),
                "the report follows",
            )

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [b"\x00\x00\x00\x05abc", b"\xff\xff\xff\xff", b"\x00\x00\x00\x03\x01\x02\x03", b""])
def test_a_subscriber_that_talks_nonsense_disturbs_nobody(tmp_path: Path, said: bytes) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as kept, kept.following() as replica:
            reader, writer = await asyncio.open_unix_connection(str(kept.path))
            writer.write(said)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
            self_signed("a.example").write(kept.certs)
            await until(lambda: len(replica.index) == 1, "the others go on")

    asyncio.run(scenario())


def test_a_whole_state_in_parts_retires_what_it_does_not_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as kept:
            self_signed("a.example").write(kept.certs)
            async with kept.following() as replica:
                await until(lambda: len(replica.index) == 1, "it is there")
                whole = Change(99, whole=True, last=True, put=[], retire=[], default_name=None, made=None)
                assert await replica.take_in(whole)
                assert len(replica.index) == 0
                assert replica.digest == Replica().digest

    asyncio.run(scenario())


def test_the_first_message_to_control_is_the_state_and_the_second_a_report(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as kept:
            reader, writer = await asyncio.open_unix_connection(str(kept.path))
            writer.write(frame(Hello("control", 0, 1)))
            assert isinstance(await from_keeper(reader), Change)
            assert isinstance(await from_keeper(reader), Report)
            writer.close()

    asyncio.run(scenario())


def test_control_is_sent_the_state_when_the_workers_have_taken_it_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as kept:
            worker, said_by_worker = await asyncio.open_unix_connection(str(kept.path))
            said_by_worker.write(frame(Hello("worker", 0, 1)))
            state = await from_keeper(worker)
            assert isinstance(state, Change)
            control, said_by_control = await asyncio.open_unix_connection(str(kept.path))
            said_by_control.write(frame(Hello("control", 0, 2)))
            answer = asyncio.ensure_future(from_keeper(control))
            await asyncio.sleep(5 * SOON)
            assert not answer.done()
            said_by_worker.write(frame(Applied(state.number, len(state.put), "")))
            assert isinstance(await answer, Change)
            report = await from_keeper(control)
            assert isinstance(report, Report)
            assert [one.change for one in report.replicas] == [state.number]
            said_by_worker.close()
            said_by_control.close()

    asyncio.run(scenario())


def test_control_does_not_wait_for_ever_for_a_worker_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certstore.keeper.FIRST_CATCH_UP", 3 * SOON)

    async def scenario() -> None:
        async with running(tmp_path) as kept:
            worker, said_by_worker = await asyncio.open_unix_connection(str(kept.path))
            said_by_worker.write(frame(Hello("worker", 0, 1)))
            assert isinstance(await from_keeper(worker), Change)
            control, said_by_control = await asyncio.open_unix_connection(str(kept.path))
            said_by_control.write(frame(Hello("control", 0, 2)))
            assert isinstance(await from_keeper(control), Change)
            said_by_worker.close()
            said_by_control.close()

    asyncio.run(scenario())


def test_files_written_without_end_do_not_keep_the_directories_being_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[tuple[float, float]] = []
    scan = Catalogue.scan

    def slow(catalogue: Catalogue, *arguments: Any) -> None:
        started = time.monotonic()
        scan(catalogue, *arguments)
        time.sleep(0.05)
        scans.append((started, time.monotonic()))

    monkeypatch.setattr(Catalogue, "scan", slow)

    async def scenario() -> None:
        async with running(tmp_path) as kept:

            def written() -> bool:
                (kept.certs / "touched").touch()
                return len(scans) > 4

            await until(written, "there were some scans")

    asyncio.run(scenario())
    for (started, ended), (next_started, _) in pairwise(scans[1:]):
        assert next_started - ended >= ended - started


def test_more_problems_than_a_report_has_room_for_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certstore.keeper.REPORTED", 1000)

    async def scenario() -> None:
        async with running(tmp_path) as kept:
            for number in range(50):
                (kept.certs / f"{number}.pem").touch()
                (kept.certs / f"{number}.crt").write_bytes(self_signed("a.example").certificate_pem)
            async with kept.following("control") as control:

                def told() -> bool:
                    problems = control.report.problems if control.report is not None else []
                    return bool(problems) and f"{50 - len(problems) + 1} more" in problems[-1].message

                await until(told, "those left out are counted")
                assert control.report is not None
                assert 1 < len(control.report.problems) < 50
                assert control.report.problems[-1].reason == "too_many"
                assert 1 < len(control.report.waiting) < 50

    asyncio.run(scenario())


def test_certificates_are_served_though_no_default_one_can_be_made_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = self_signed("a.example"), self_signed("b.example")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def scenario() -> None:
        monkeypatch.setattr(default_certificate, "write_private_file", refuse)
        first.write(tmp_path / "state/certs", "first")
        async with running(tmp_path) as kept, kept.following() as replica:
            assert serves(replica, first, "a.example")
            second.write(kept.certs, "second")
            await until(lambda: serves(replica, second, "b.example"), "it is looked at")
            assert replica.selector.select(None) is None
            monkeypatch.undo()
            put(kept.certs / "third.pem", self_signed("c.example").combined_pem)
            await until(lambda: replica.selector.select(None) is not None, "it is made")

    asyncio.run(scenario())
    said = [record.getMessage() for record in caplog.records if "default certificate" in record.getMessage()]
    assert len(said) == 1
    assert "cannot be written (No space left on device); make room" in said[0]


class Panic(BaseException):
    """As cryptography's Rust code raises it: no Exception."""


def test_a_panic_in_a_library_does_not_end_the_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = self_signed("a.example")
    failures = iter((Panic(), Panic()))
    scan = Catalogue.scan

    def failing(catalogue: Catalogue, *arguments: Any) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        scan(catalogue, *arguments)

    async def scenario() -> None:
        async with running(tmp_path) as kept, kept.following() as replica:
            monkeypatch.setattr(Catalogue, "scan", failing)
            pair.write(kept.certs)
            await until(lambda: serves(replica, pair, "a.example"), "the keeper goes on")

    asyncio.run(scenario())


def test_a_panic_while_a_chain_is_verified_costs_that_certificate_its_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil, good = self_signed("evil.example"), self_signed("good.example")
    verify = TrustStore.best_verdict

    def panic(store: TrustStore, leaf: Certificate, *others: Any) -> Any:
        if leaf.fingerprint == evil.fingerprint:
            raise Panic
        return verify(store, leaf, *others)

    monkeypatch.setattr(TrustStore, "best_verdict", panic)

    async def scenario() -> None:
        async with running(tmp_path) as kept, kept.following() as replica:
            evil.write(kept.certs, "evil")
            good.write(kept.certs, "good")
            await until(lambda: serves(replica, good, "good.example"), "the others go on")
            await until(lambda: serves(replica, evil, "evil.example"), "and so does this one")

    asyncio.run(scenario())
