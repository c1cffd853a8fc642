from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.account import Account
from proxy.handshakes import HandshakeDeadlines, Handshakes, surplus
from tests.support.loop import in_loop
from tests.support.simulated_time import SimulatedTime

FLOOD = "203.0.113.9"


class Waiting:
    """A handshake that nobody finishes."""

    def __init__(self, part: HandshakeDeadlines, address: str, now: float = 0.0) -> None:
        self.account = Account("web", (address, 1))
        self.told: list[str] = []
        self._part = part
        part.set(self, now)

    def overdue(self) -> None:
        self.told.append("timeout")

    def fail(self, reason: str) -> None:
        self._part.clear(self)
        self.told.append(reason)


def part_of(handshakes: Handshakes, seconds: float = 10.0, most: int | None = None) -> HandshakeDeadlines:
    return handshakes.deadlines(SimulatedTime(asyncio.get_running_loop()), seconds, most)


@in_loop
async def test_there_are_never_more_than_there_may_be_and_none_is_ended_before() -> None:
    part = part_of(Handshakes(16))
    waiting = [Waiting(part, f"192.0.2.{number}") for number in range(16)]
    assert not any(one.told for one in waiting)
    for number in range(500):
        waiting.append(Waiting(part, f"198.51.100.{number % 200}"))
        assert len(part) <= 16
    assert sum(one.told == ["crowded_out"] for one in waiting) == len(waiting) - len(part)


@in_loop
async def test_who_floods_ends_what_is_theirs_and_nobody_elses() -> None:
    part = part_of(Handshakes(100))
    slow = [Waiting(part, f"192.0.2.{number}") for number in range(20)]
    flood = [Waiting(part, FLOOD) for _ in range(10_000)]
    assert not any(one.told for one in slow)
    assert len([one for one in flood if not one.told]) == len(part) - 20 >= 60


@in_loop
async def test_a_flood_from_a_prefix_of_ipv6_is_one_client() -> None:
    part = part_of(Handshakes(100))
    slow = Waiting(part, "2001:db8:0:1::1")
    for number in range(1000):
        Waiting(part, f"2001:db8:0:2::{number:x}")
    assert slow.told == []


@in_loop
async def test_where_each_comes_once_the_oldest_go_and_who_is_quick_is_done_before() -> None:
    """From as many addresses as may be: a handshake ends in peace while fewer than seven eighths are newer."""
    part = part_of(Handshakes(80))
    earlier = [Waiting(part, f"10.0.0.{number}") for number in range(80)]
    good = Waiting(part, "192.0.2.1")
    assert [one.told for one in earlier] == [["crowded_out"]] * 10 + [[]] * 70
    for number in range(69):
        Waiting(part, f"10.0.1.{number}")
    assert good.told == []
    for number in range(20):
        Waiting(part, f"10.0.2.{number}")
    assert good.told == ["crowded_out"]


@in_loop
async def test_all_listeners_of_a_worker_count_together_and_the_oldest_of_all_goes_first() -> None:
    handshakes = Handshakes(2)
    web, mail = part_of(handshakes, 10.0), part_of(handshakes, 60.0)
    first, second = Waiting(mail, "192.0.2.1", 1.0), Waiting(web, "192.0.2.2", 2.0)
    third = Waiting(web, "192.0.2.3", 3.0)
    assert [one.told for one in (first, second, third)] == [["crowded_out"], [], []]
    Waiting(mail, "192.0.2.4", 4.0)
    assert [one.told for one in (first, second, third)] == [["crowded_out"], ["crowded_out"], []]


@in_loop
async def test_a_listener_that_has_as_many_as_it_may_makes_room_among_its_own() -> None:
    handshakes = Handshakes(100)
    web, mail = part_of(handshakes, most=8), part_of(handshakes)
    others = [Waiting(mail, FLOOD, -1.0) for _ in range(50)]
    slow = Waiting(web, "192.0.2.1")
    flood = [Waiting(web, FLOOD, 1.0) for _ in range(1000)]
    assert not any(one.told for one in (slow, *others))
    assert len(web) <= 8
    assert sum(one.told == ["crowded_out"] for one in flood) == 1001 - len(web)


@in_loop
async def test_a_listeners_own_number_does_not_let_the_worker_have_more() -> None:
    handshakes = Handshakes(10)
    web, mail = part_of(handshakes, most=8), part_of(handshakes)
    for _ in range(100):
        Waiting(web, FLOOD)
        Waiting(mail, FLOOD)
        assert len(web) + len(mail) <= 10


@in_loop
async def test_who_was_crowded_out_is_not_told_of_the_deadline_too_and_others_are() -> None:
    time = SimulatedTime(asyncio.get_running_loop())
    part = Handshakes(1).deadlines(time, 10.0)
    gone = Waiting(part, "192.0.2.1", time.time())
    left = Waiting(part, "192.0.2.2", time.time())
    time.advance(11)
    assert (gone.told, left.told) == (["crowded_out"], ["timeout"])


@in_loop
async def test_the_operator_is_told_once_in_a_while_and_of_whom(caplog: pytest.LogCaptureFixture) -> None:
    part = part_of(Handshakes(10))
    with caplog.at_level(logging.WARNING, "snigate.session"):
        Waiting(part, "192.0.2.1")
        for _ in range(1000):
            Waiting(part, FLOOD)
    (message,) = caplog.messages
    assert message == (
        "10 handshakes are unfinished, as many as may be (server.max_handshakes), 9 of them with 203.0.113.9; "
        "the oldest of whoever has most are ended"
    )


def one_by_one(clients: list[str], count: int) -> list[int]:
    """The same as `surplus`, as slowly as it is said."""
    left, gone = list(range(len(clients))), []
    for _ in range(min(count, len(clients))):
        held = Counter(clients[place] for place in left)
        most = max(held.values())
        place = next(one for one in left if held[clients[one]] == most)
        left.remove(place)
        gone.append(place)
    return gone


@given(st.lists(st.sampled_from("abcde"), max_size=40), st.integers(0, 45))
def test_the_oldest_of_whoever_has_most_go_one_after_the_other(clients: list[str], count: int) -> None:
    assert surplus(clients, count) == one_by_one(clients, count)


@given(st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", FLOOD]), st.booleans()), max_size=60))
def test_however_they_come_and_finish_who_comes_is_let_in_and_the_bound_holds(steps: list[tuple[str, bool]]) -> None:
    async def main() -> None:
        handshakes = Handshakes(5)
        parts = [part_of(handshakes), part_of(handshakes, 3.0)]
        waiting: list[tuple[HandshakeDeadlines, Waiting]] = []
        for moment, (address, finishes) in enumerate(steps):
            if finishes and waiting:
                part, one = waiting.pop(0)
                part.clear(one)
                continue
            part = parts[moment % 2]
            one = Waiting(part, address, float(moment))
            waiting = [(place, other) for place, other in waiting if not other.told]
            waiting.append((part, one))
            assert one.told == []
            assert sum(map(len, parts)) == len(waiting) <= 5

    asyncio.run(main())
