from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.balancer import FIRST_BACK_OFF, LONGEST_BACK_OFF, Balance, Balancer, Member, Rank, Standing


def members(count: int) -> list[Member]:
    return [Member() for _ in range(count)]


def put_out(member: Member, now: float = 0.0) -> None:
    member.take(now)
    member.failed(now)


def test_without_members_there_is_no_choice() -> None:
    assert Balancer[Member]("round-robin").choose(0.0) is None


def test_round_robin_takes_everybody_in_turn_whatever_is_open() -> None:
    every = members(3)
    every[1].active = 100
    balancer = Balancer("round-robin", every)
    assert [every.index(balancer.choose(0.0) or every[0]) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_least_connections_takes_the_one_with_the_fewest_and_equals_in_turn() -> None:
    every = members(3)
    balancer = Balancer("least-connections", every)
    assert [balancer.choose(0.0) for _ in range(3)] == every
    every[1].release()
    assert balancer.choose(0.0) is every[1]
    assert [balancer.choose(0.0) for _ in range(3)] == [every[2], every[0], every[1]]


def test_each_is_tried_once() -> None:
    every = members(2)
    balancer = Balancer("least-connections", every)
    tried: list[Member] = []
    while (one := balancer.choose(0.0, tried)) is not None:
        tried.append(one)
    assert sorted(map(id, tried)) == sorted(map(id, every))


def test_one_that_failed_is_left_out_until_its_time_is_over_and_then_gets_one_trial() -> None:
    good, bad = every = members(2)
    balancer = Balancer("least-connections", every)
    put_out(bad)
    assert [balancer.choose(0.9) for _ in range(3)] == [good] * 3
    assert balancer.choose(FIRST_BACK_OFF) is bad
    assert bad.standing is Standing.ON_TRIAL
    assert balancer.choose(FIRST_BACK_OFF) is good
    bad.succeeded()
    assert balancer.choose(FIRST_BACK_OFF) is bad


def test_the_time_out_doubles_with_each_trial_that_fails_up_to_a_limit() -> None:
    one, now, waits = Member(), 0.0, []
    put_out(one, now)
    for _ in range(8):
        since = now
        while one.rank(now) is Rank.OUT:
            now += 0.5
        waits.append(now - since)
        put_out(one, now)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert LONGEST_BACK_OFF == 30


def test_one_success_forgets_every_failure() -> None:
    one = Member()
    for now in (0.0, 1.0, 3.0):
        put_out(one, now)
    one.take(3.5)
    one.succeeded()
    assert one.in_service
    put_out(one, 4.0)
    assert one.rank(4.0 + FIRST_BACK_OFF) is Rank.READY


def test_many_attempts_that_fail_together_count_as_one() -> None:
    one = Member()
    for _ in range(100):
        one.take(0.0)
    for _ in range(100):
        one.failed(0.0)
    assert one.active == 0
    assert one.rank(FIRST_BACK_OFF) is Rank.READY


def test_where_all_are_out_they_are_tried_anyway() -> None:
    every = members(2)
    for one in every:
        put_out(one)
    balancer = Balancer("least-connections", every)
    assert {balancer.choose(0.1), balancer.choose(0.1)} == set(every)


def test_a_trial_that_is_given_up_leaves_the_trial_to_the_next() -> None:
    one = Member()
    put_out(one)
    one.take(1.0)
    one.abandoned()
    assert one.rank(1.0) is Rank.READY
    assert one.active == 0


def test_one_whose_check_failed_is_not_chosen_while_another_is_healthy_and_at_once_when_it_passes() -> None:
    good, bad = every = members(2)
    balancer = Balancer("round-robin", every)
    bad.checked(False)
    assert {balancer.choose(0.0) for _ in range(4)} == {good}
    put_out(good)
    assert balancer.choose(0.1) is bad, "it can be reached, which cannot be said of the other"
    put_out(bad)
    bad.checked(True)
    assert {balancer.choose(0.1) for _ in range(4)} == {bad}


def test_replaced_members_are_chosen_from_at_once() -> None:
    balancer = Balancer("round-robin", members(5))
    for _ in range(4):
        balancer.choose(0.0)
    (only,) = balancer.members = members(1)
    assert balancer.choose(0.0) is only


class Balancing(RuleBasedStateMachine):
    """Any order of what can happen to three servers."""

    def __init__(self) -> None:
        super().__init__()
        self.members = members(3)
        self.balancer = Balancer("least-connections", self.members)
        self.now = 0.0
        self.dialling: list[Member] = []
        self.open: list[Member] = []

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_connection_comes(self) -> None:
        before = {one: (one.rank(self.now), one.active) for one in self.members}
        chosen = self.balancer.choose(self.now)
        assert chosen is not None
        assert before[chosen] == min(before.values()), "never one that is out while another is in, and the fewest first"
        self.dialling.append(chosen)

    @precondition(lambda self: self.dialling)
    @rule(data=st.data(), how=st.sampled_from(["succeeds", "fails", "is given up"]))
    def an_attempt_ends(self, data: st.DataObject, how: str) -> None:
        member = self.dialling.pop(data.draw(st.integers(0, len(self.dialling) - 1)))
        if how == "succeeds":
            member.succeeded()
            self.open.append(member)
        elif how == "fails":
            member.failed(self.now)
        else:
            member.abandoned()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def a_connection_ends(self, data: st.DataObject) -> None:
        self.open.pop(data.draw(st.integers(0, len(self.open) - 1))).release()

    @rule(place=st.integers(0, 2), passed=st.booleans())
    def a_check_is_done(self, place: int, passed: bool) -> None:
        self.members[place].checked(passed)
        assert self.members[place].in_service or not passed

    @invariant()
    def everything_is_counted_once(self) -> None:
        counts = Counter([*self.dialling, *self.open])
        assert [one.active for one in self.members] == [counts[one] for one in self.members]

    @invariant()
    def whoever_is_out_comes_back_in_time(self) -> None:
        for one in self.members:
            if one.standing is Standing.OUT:
                assert one.rank(self.now + LONGEST_BACK_OFF) is not Rank.OUT


TestBalancing = Balancing.TestCase
TestBalancing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(1, 6), st.lists(st.integers(0, 5), max_size=60))
def test_least_connections_stays_balanced_whichever_connections_end(count: int, ends: list[int]) -> None:
    every = members(count)
    balancer = Balancer("least-connections", every)
    for place in ends:
        balancer.choose(0.0)
        if every[place % count].active and place % 2:
            every[place % count].release()
    for _ in range(count * len(ends) + 1):
        balancer.choose(0.0)
    counts = [one.active for one in every]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("balance", ["least-connections", "round-robin"])
def test_a_single_member_is_always_chosen(balance: Balance) -> None:
    (only,) = every = members(1)
    balancer = Balancer(balance, every)
    for now in (0.0, 0.1, 0.2, 5.0):
        assert balancer.choose(now) is only
        only.failed(now)
