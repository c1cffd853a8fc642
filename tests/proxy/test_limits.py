from __future__ import annotations

import ipaddress
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.limits import Limits


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
    assert limits._clients == {}


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
    assert limits._clients == {}
