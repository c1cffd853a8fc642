"""The keeper and its subscribers, over a real Unix socket in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from certstore.catalogue import Settings, Snapshot
from certstore.keeper import Keeper
from certstore.messages import Change, Hello, Report, Role, frame, from_keeper
from certstore.replica import Replica
from tests.support.pki import Pair, put, self_signed

PATIENCE = 20.0


class Running:
    """A keeper that runs in this event loop, and where to reach it."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.certs = self.state / "certs"
        self.certs.mkdir(parents=True)
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
