from __future__ import annotations

import ipaddress
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.limits import Limits


def remembered(limits: Limits) -> dict[str, int]:
    assert limits._held is not None
    return limits._held.clients


def test_a_worker_is_full_at_its_number_of_connections_and_not_once_one_has_ended() -> None:
    limits = Limits(2, None)
    assert limits.admit("192.0.2.1")
    assert not limits.full
    assert limits.admit("192.0.2.2")
    assert limits.full
    limits.release("192.0.2.1")
    assert not limits.full
    assert limits.open == 1


def test_a_client_at_its_limit_is_refused_and_others_are_not() -> None:
    limits = Limits(100, 2)
    assert limits.admit("192.0.2.1")
    assert limits.admit("192.0.2.1")
    assert not limits.admit("192.0.2.1")
    assert limits.admit("192.0.2.2")
    assert limits.open == 3
    limits.release("192.0.2.1")
    assert limits.admit("192.0.2.1")
    assert not limits.admit("192.0.2.1")


def test_a_client_that_is_too_fast_is_refused_and_not_counted() -> None:
    moments = iter([0.0] * 11 + [1.0])
    limits = Limits(100, None, 1, lambda: next(moments))
    assert [limits.admit("2001:db8::1") for _ in range(11)] == [True] * 10 + [False]
    assert limits.open == 10
    assert limits.admit("2001:db8::2"), "the same /64, a second later"


def test_without_a_limit_one_client_may_have_them_all() -> None:
    limits = Limits(1000, None)
    assert all(limits.admit("192.0.2.1") for _ in range(1000))
    assert limits.full


def test_a_connection_counts_for_its_client_once_it_is_named_and_for_the_worker_at_once() -> None:
    limits = Limits(2, 1)
    limits.admit_unnamed()
    limits.admit_unnamed()
    assert limits.full
    assert limits.name("192.0.2.1")
    assert not limits.name("192.0.2.1")
    assert limits.open == 2
    limits.release(None)
    limits.release("192.0.2.1")
    assert limits.open == 0
    assert remembered(limits) == {}


def test_who_is_refused_for_what_is_open_has_not_used_up_new_connections() -> None:
    moments = iter([0.0] * 40)
    limits = Limits(100, 1, 1, lambda: next(moments))
    assert limits.admit("192.0.2.1")
    assert not any(limits.admit("192.0.2.1") for _ in range(20))
    for _ in range(9):
        limits.release("192.0.2.1")
        assert limits.admit("192.0.2.1")
    limits.release("192.0.2.1")
    assert not limits.admit("192.0.2.1"), "ten were saved up, and ten were begun"


def test_a_listener_that_says_no_limit_shares_all_of_its_workers() -> None:
    limits = Limits(10, 1)
    assert limits.for_listener(None, None, None) is limits


def test_a_listener_is_full_at_its_own_number_and_leaves_others_their_room() -> None:
    worker = Limits(3, None)
    listener = worker.for_listener(1, None, None)
    assert listener.admit("192.0.2.1")
    assert listener.full
    assert listener.reached == "its max_connections (1)"
    assert not worker.full
    assert worker.admit("192.0.2.1")
    assert worker.admit("192.0.2.1")
    assert worker.full
    listener.release("192.0.2.1")
    assert not worker.full
    assert not listener.full


def test_a_listener_is_full_when_its_worker_is() -> None:
    worker = Limits(2, None)
    listener = worker.for_listener(2, None, None)
    worker.admit_unnamed()
    listener.admit_unnamed()
    assert listener.full
    assert listener.reached == "server.max_connections (2)"
    worker.release(None)
    assert not listener.full


def test_a_listeners_own_limit_for_a_client_counts_its_connections_alone() -> None:
    worker = Limits(100, 1)
    listener = worker.for_listener(None, 2, None)
    assert worker.admit("192.0.2.1")
    assert listener.admit("192.0.2.1")
    assert listener.admit("192.0.2.1")
    assert not listener.admit("192.0.2.1")
    assert not worker.admit("192.0.2.1")
    worker.release("192.0.2.1")
    assert worker.admit("192.0.2.1")
    assert not listener.admit("192.0.2.1")


def test_what_a_listener_does_not_say_counts_with_the_workers_others() -> None:
    worker = Limits(100, 2)
    listener = worker.for_listener(50, None, None)
    assert worker.admit("192.0.2.1")
    assert listener.admit("192.0.2.1")
    assert not listener.admit("192.0.2.1")
    assert not worker.admit("192.0.2.1")
    listener.release("192.0.2.1")
    assert worker.admit("192.0.2.1")


def test_a_listeners_own_rate_is_counted_apart() -> None:
    worker = Limits(1000, None, 1, lambda: 0.0)
    listener = worker.for_listener(None, None, 20)
    assert [listener.admit("192.0.2.1") for _ in range(41)] == [True] * 40 + [False]
    assert [worker.admit("192.0.2.1") for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("2001:db8::1", "2001:db8:0:0:1::", True),
        ("2001:db8::1", "2001:db8:0:1::", False),
        ("::1", "::2", True),
        ("::1", "1::", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_an_ipv6_client_is_its_64_bit_prefix(one: str, other: str, same: bool) -> None:
    limits = Limits(10, 1)
    assert limits.admit(one)
    assert limits.admit(other) is not same


def prefix(address: str) -> str:
    """What counts as one client, by the ipaddress module."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


addresses = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1"]),
)


@given(st.lists(addresses, max_size=60))
def test_the_counts_agree_with_the_addresses_that_came_and_went(came: list[str]) -> None:
    limits, held, admitted = Limits(1000, 3), Counter[str](), []
    for address in came:
        if limits.admit(address):
            admitted.append(address)
            held[prefix(address)] += 1
        else:
            assert held[prefix(address)] == 3
    assert limits.open == len(admitted)
    assert max(held.values(), default=0) <= 3
    for address in admitted:
        limits.release(address)
    assert limits.open == 0


@given(st.lists(addresses, max_size=30))
def test_nothing_is_remembered_of_clients_that_are_gone(came: list[str]) -> None:
    limits = Limits(1000, 3)
    for address in [one for one in came if limits.admit(one)]:
        limits.release(address)
    assert remembered(limits) == {}


own = st.one_of(st.none(), st.integers(1, 4))
steps = st.lists(st.tuples(st.integers(0, 2), addresses, st.booleans()), max_size=80)


@given(steps, own, own, own, own)
def test_every_listener_keeps_to_its_own_limits_and_all_of_them_to_the_workers(
    done: list[tuple[int, str, bool]], of_client: int | None, most: int | None, own_most: int | None, apart: int | None
) -> None:
    """Connections come to one of three listeners and go; each that may be admitted is, and no other."""
    worker = Limits(6, of_client)
    listeners = [worker, worker.for_listener(most, None, None), worker.for_listener(own_most, apart, None)]
    wanted = [None, most, own_most]
    open_now: list[tuple[int, str]] = []
    for place, address, comes in done:
        if not comes:
            gone = next((one for one in open_now if one[0] == place), None)
            if gone is not None:
                open_now.remove(gone)
                listeners[place].release(gone[1])
            continue
        here = sum(one == place for one, _ in open_now)
        most_here = wanted[place]
        assert listeners[place].full is (len(open_now) >= 6 or (most_here is not None and here >= most_here))
        if listeners[place].full:
            continue
        by_itself = place == 2 and apart is not None
        limit = apart if by_itself else of_client
        same = [
            one
            for one, other in open_now
            if prefix(other) == prefix(address) and ((one == 2 and apart is not None) is by_itself)
        ]
        assert listeners[place].admit(address) is (limit is None or len(same) < limit)
        if limit is None or len(same) < limit:
            open_now.append((place, address))
        assert worker.open == len(open_now)
    for place, address in open_now:
        listeners[place].release(address)
    assert [one.open for one in listeners] == [0, 0, 0]
