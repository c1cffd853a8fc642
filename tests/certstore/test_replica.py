from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certstore.catalogue import Settings, Snapshot
from certstore.certified_key import CertifiedKey
from certstore.index import SLICE
from certstore.keeper import Keeper
from certstore.messages import Change, Report, Role
from certstore.replica import Replica
from tests.support.certified_keys import NOW, certified_key, certified_keys
from tests.support.pki import Pair, self_signed

PATIENCE = 10.0


def change(
    number: int,
    put: Sequence[CertifiedKey] = (),
    retire: Iterable[str] = (),
    *,
    whole: bool = False,
    last: bool = True,
    default_name: str | None = None,
    made: CertifiedKey | None = None,
) -> Change:
    return Change(number, whole, last, list(put), list(retire), default_name, made)


def replica() -> Replica:
    return Replica(clock=lambda: NOW)


def after(*changes: Change) -> Replica:
    """A replica that has taken these in."""

    async def take_all() -> Replica:
        one = replica()
        for part in changes:
            await one.take_in(part)
        return one

    return asyncio.run(take_all())


def served(one: Replica, host: str) -> bytes | None:
    selection = one.selector.select(host)
    return selection.certificate.leaf if selection else None


def test_a_change_is_complete_only_with_its_last_part() -> None:
    async def check() -> None:
        one = replica()
        assert not await one.take_in(change(1, [certified_key("a", "a.example")], whole=True, last=False))
        assert (len(one.index), one.change, one.ready.is_set()) == (0, 0, False)
        assert await one.take_in(change(1, [certified_key("b", "b.example")], whole=True))
        assert (len(one.index), one.change, one.ready.is_set()) == (2, 1, True)
        assert (served(one, "a.example"), served(one, "b.example")) == (b"a", b"b")

    asyncio.run(check())


def test_a_change_puts_replaces_and_retires() -> None:
    a, b = certified_key("a", "a.example"), certified_key("b", "b.example")
    renewed = certified_key("a2", "a.example")
    one = after(change(1, [a, b], whole=True), change(2, [renewed], [a.fingerprint]), change(3, [], [b.fingerprint]))
    assert (served(one, "a.example"), served(one, "b.example"), one.change) == (b"a2", None, 3)


def test_a_whole_change_retires_what_it_does_not_name_and_touches_nothing_that_is_the_same() -> None:
    kept, gone, new = (certified_key(label, f"{label}.example") for label in ("kept", "gone", "new"))
    told: list[list[str]] = []

    class Follower:
        def replaced(self, fingerprints: Iterable[str]) -> None:
            told.append(list(fingerprints))

    async def check() -> None:
        one = replica()
        one.tell(Follower())
        await one.take_in(change(1, [kept, gone], whole=True))
        held = one.index.certificates[kept.fingerprint]
        again = certified_key("kept", "kept.example")
        await one.take_in(change(7, [again, new], whole=True))
        assert one.index.certificates[kept.fingerprint] is held
        assert set(one.index.certificates) == {kept.fingerprint, new.fingerprint}
        assert told[1] == [new.fingerprint, gone.fingerprint]

    asyncio.run(check())


def test_a_certificate_with_another_chain_replaces_itself() -> None:
    old, new = certified_key("a", "a.example", chain=[b"old"]), certified_key("a", "a.example", chain=[b"new"])
    one = after(change(1, [old], whole=True), change(2, [new]))
    selection = one.selector.select("a.example")
    assert selection is not None
    assert selection.certificate.chain == (b"new",)
    assert one.digest == after(change(1, [new], whole=True)).digest != after(change(1, [old], whole=True)).digest


def test_the_default_and_the_certificate_made_at_first_start_come_along() -> None:
    made = certified_key("made")
    one = after(change(1, [certified_key("a", "a.example")], default_name="a.example", made=made))
    assert served(one, "unknown.example") == b"a"
    assert served(after(change(1, made=made)), "unknown.example") == b"made"


def test_a_disregarded_certificate_is_regarded_again_when_it_is_replaced() -> None:
    old = certified_key("a", "a.example", chain=[b"unusable"])

    async def check() -> None:
        one = replica()
        await one.take_in(change(1, [old], whole=True))
        one.selector.disregard(old.fingerprint)
        assert served(one, "a.example") is None
        await one.take_in(change(2, [certified_key("a", "a.example")]))
        assert served(one, "a.example") == b"a"

    asyncio.run(check())


def test_a_large_change_leaves_room_for_other_events_and_no_name_ever_lacks_a_certificate() -> None:
    names = [f"host{number}.example.com" for number in range(4 * SLICE)]
    old, new = certified_key("old", *names), certified_key("new", *names)

    async def check() -> None:
        one = replica()
        await one.take_in(change(1, [old], whole=True))
        applying = asyncio.create_task(one.take_in(change(2, [new], [old.fingerprint])))
        seen = []
        while not applying.done():
            seen.append({served(one, name) for name in names[:: SLICE // 2]})
            await asyncio.sleep(0)
        assert set.union(*seen) <= {b"old", b"new"}
        assert {b"old", b"new"} in seen
        assert {served(one, name) for name in names} == {b"new"}

    asyncio.run(check())


@given(st.lists(st.lists(certified_keys(), max_size=4, unique_by=lambda one: one.fingerprint), min_size=1, max_size=5))
def test_two_replicas_that_hold_the_same_have_the_same_digest_whatever_their_history(
    steps: list[list[CertifiedKey]],
) -> None:
    held: dict[str, CertifiedKey] = {}
    changes = []
    for number, put in enumerate(steps):
        retire = [fingerprint for place, fingerprint in enumerate(held) if (place + number) % 2]
        held = {fingerprint: one for fingerprint, one in held.items() if fingerprint not in retire}
        held.update((one.fingerprint, one) for one in put)
        changes.append(change(number, put, retire))
    walked = after(*changes)
    assert walked.index.certificates == held
    assert walked.digest == after(change(9, list(held.values()), whole=True)).digest
    assert (walked.digest == after().digest) is (not held)


class KeeperThread:
    """A keeper in a loop of its own, whose end closes its connections like a process's end would."""

    def __init__(self, keeper: Keeper) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(keeper.run())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, contextlib.suppress(asyncio.CancelledError):
            runner.run(self._until_ended())

    async def _until_ended(self) -> None:
        await self._task

    def end(self) -> None:
        """End it, and wait until its connections are closed."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(PATIENCE)


class Kept:
    """Directories below `path`, the keeper of them, and replicas that follow it."""

    def __init__(self, path: Path) -> None:
        self.state, self.certs = path / "state", path / "certificates"
        (self.state / "certs").mkdir(parents=True)
        self.certs.mkdir()
        self.socket = path / "keeper.sock"
        self.published: list[Snapshot] = []
        self._keepers: list[KeeperThread] = []
        self._following: list[asyncio.Task[None]] = []

    def start(self, rescan: float = 60.0) -> KeeperThread:
        self.socket.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.socket))
        listening.listen()
        settings = Settings(self.state, (self.certs,), trust=())
        self._keepers.append(KeeperThread(Keeper(settings, listening, rescan, self.published.append)))
        return self._keepers[-1]

    def follow(self, role: Role = "worker", number: int = 0) -> Replica:
        one = Replica()
        self._following.append(asyncio.create_task(one.follow(self.socket, role, number)))
        return one

    async def end(self) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        for keeper in self._keepers:
            keeper.end()


def with_keeper(path: Path, check: Callable[[Kept], Coroutine[Any, Any, None]]) -> None:
    """Run `check` with a keeper's surroundings, and end what it began."""

    async def run() -> None:
        kept = Kept(path)
        try:
            async with asyncio.timeout(2 * PATIENCE):
                await check(kept)
        finally:
            await kept.end()

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def holds(one: Replica, *pairs: Pair) -> bool:
    return set(one.index.certificates) == {pair.fingerprint for pair in pairs}


def test_a_replica_follows_the_keeper_and_tells_it_what_it_holds(tmp_path: Path) -> None:
    first, second = self_signed("a.example"), self_signed("b.example")

    async def check(kept: Kept) -> None:
        first.write(kept.certs, "first")
        kept.start()
        worker, control = kept.follow(), kept.follow("control")
        await until(lambda: worker.ready.is_set() and control.ready.is_set())
        assert holds(worker, first)
        assert len(kept.published) == 1
        second.write(kept.certs, "second")
        await until(lambda: holds(worker, first, second) and holds(control, first, second))

        def reported() -> bool:
            report = control.report
            return isinstance(report, Report) and [one.digest for one in report.replicas] == [worker.digest]

        await until(reported)
        assert worker.report is None

    with_keeper(tmp_path, check)


def test_control_never_gets_a_private_key(tmp_path: Path) -> None:
    pair = self_signed("a.example")

    async def check(kept: Kept) -> None:
        kept.start()
        worker, control = kept.follow(), kept.follow("control")
        await until(lambda: worker.ready.is_set() and control.ready.is_set())
        pair.write(kept.certs)
        await until(lambda: holds(worker, pair) and holds(control, pair))
        late = kept.follow("control")
        await until(lambda: holds(late, pair))
        for one, expected in ((worker, pair.key_der), (control, b""), (late, b"")):
            assert one.index.certificates[pair.fingerprint].key == expected
            made = one.selector.select("unknown.example")
            assert made is not None
            assert bool(made.certificate.key) is bool(expected)

    with_keeper(tmp_path, check)


def test_the_last_state_serves_on_without_a_keeper_and_the_next_keeper_is_followed(tmp_path: Path) -> None:
    old, new = self_signed("a.example"), self_signed("a.example")

    async def check(kept: Kept) -> None:
        old.write(kept.certs)
        keeping = kept.start()
        worker = kept.follow()
        await until(lambda: holds(worker, old))
        keeping.end()
        new.write(kept.certs)
        assert holds(worker, old)
        kept.start()
        await until(lambda: holds(worker, new))
        assert served(worker, "a.example") == new.der

    with_keeper(tmp_path, check)


def test_more_certificates_than_one_frame_holds_arrive_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certstore.messages.PART_BYTES", 5000)
    key = self_signed("key.example").key
    pairs = [self_signed(f"host{number}.example", key=key) for number in range(20)]

    async def check(kept: Kept) -> None:
        (kept.certs / "all.pem").write_bytes(pairs[0].key_pem + b"".join(pair.certificate_pem for pair in pairs))
        kept.start()
        worker = kept.follow()
        await worker.ready.wait()
        assert holds(worker, *pairs)

    with_keeper(tmp_path, check)


def test_what_a_keeper_sends_that_cannot_be_taken_in_is_said_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("certstore.replica.RETRY", 0.001)
    said = [b"\xff\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b""]
    served: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(said[min(len(served), len(said) - 1)])
        writer.write(served[-1])
        writer.close()

    async def check(kept: Kept) -> None:
        async with await asyncio.start_unix_server(answer, str(kept.socket)):
            kept.follow()
            await until(lambda: len(served) > len(said))

    with_keeper(tmp_path, check)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    assert "over the limit" in errors[0]
    assert "cannot be understood" in errors[1]


def test_the_rescan_finds_what_no_event_told_of(tmp_path: Path) -> None:
    pair = self_signed("a.example")
    elsewhere = tmp_path / "elsewhere"

    async def check(kept: Kept) -> None:
        pair.write(elsewhere)
        (kept.certs / "linked").symlink_to(elsewhere)
        kept.start(rescan=0.1)
        worker = kept.follow()
        await until(lambda: holds(worker, pair))
        renewed = self_signed("a.example")
        renewed.write(elsewhere)
        await until(lambda: holds(worker, renewed))

    with_keeper(tmp_path, check)
