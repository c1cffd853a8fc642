from __future__ import annotations

from itertools import permutations
from typing import Literal

import pytest

from config.addresses import TcpAddress
from config.model import Config, ListenerConfig, RouteConfig, TlsConfig
from proxy.policy import Policy, ProfileName
from proxy.routing import Action, RouteTable, route_tables

ANY_PORT = TcpAddress("127.0.0.1", 0)


def route(
    *hosts: str,
    backend: str | None = None,
    profile: ProfileName | None = None,
    alpn: tuple[str, ...] | None = None,
    match_alpn: tuple[str, ...] = (),
    action: Literal["terminate", "passthrough", "reject"] = "terminate",
) -> RouteConfig:
    return RouteConfig(hosts=hosts, backend=backend, profile=profile, alpn=alpn, match_alpn=match_alpn, action=action)


def listener(*routes: RouteConfig, name: str = "web", alpn: tuple[str, ...] = ()) -> ListenerConfig:
    return ListenerConfig(name=name, bind=(ANY_PORT,), backend="127.0.0.1:1", alpn=alpn, routes=routes)


ROUTES = (
    route("*.example.com", backend="127.0.0.1:2"),
    route("www.example.com", "example.com", backend="127.0.0.1:3"),
    route("*.shop.example.com", backend="127.0.0.1:4"),
)


@pytest.mark.parametrize("routes", [ROUTES, ROUTES[::-1]], ids=["as written", "reversed"])
@pytest.mark.parametrize(
    ("server_name", "backend"),
    [
        ("www.example.com", "127.0.0.1:3"),
        ("example.com", "127.0.0.1:3"),
        ("mail.example.com", "127.0.0.1:2"),
        ("shop.example.com", "127.0.0.1:2"),
        ("a.shop.example.com", "127.0.0.1:4"),
        ("a.b.example.com", "127.0.0.1:1"),
        ("a.b.shop.example.com", "127.0.0.1:1"),
        ("example.org", "127.0.0.1:1"),
        ("com", "127.0.0.1:1"),
        (None, "127.0.0.1:1"),
    ],
)
def test_an_exact_host_beats_a_wildcard_of_one_label_whatever_the_order(
    routes: tuple[RouteConfig, ...], server_name: str | None, backend: str
) -> None:
    assert RouteTable(listener(*routes), "intermediate").find(server_name).backend == backend


def test_a_route_takes_from_its_listener_what_it_does_not_say() -> None:
    table = RouteTable(listener(route("www.example.com"), alpn=("h2", "http/1.1")), "modern")
    found = table.find("www.example.com")
    assert found.backend == "127.0.0.1:1"
    assert found.policy == Policy("modern", (b"h2", b"http/1.1")) == table.otherwise.policy
    assert found.hosts == ("www.example.com",)


def test_what_a_route_says_is_its_own() -> None:
    own = route("www.example.com", backend="127.0.0.1:9", profile="old", alpn=("http/1.1",))
    table = RouteTable(listener(own, alpn=("h2",)), "modern")
    assert table.find("www.example.com").policy == Policy("old", (b"http/1.1",))
    assert table.find("other.example.com").policy == Policy("modern", (b"h2",))


def test_a_route_can_switch_alpn_off_that_its_listener_has_on() -> None:
    table = RouteTable(listener(route("www.example.com", alpn=()), alpn=("h2",)), "intermediate")
    assert table.find("www.example.com").policy.alpn == ()


def test_a_table_knows_every_policy_that_a_connection_may_come_under() -> None:
    table = RouteTable(listener(*ROUTES, route("old.example.com", profile="old")), "intermediate")
    assert table.policies == {Policy("intermediate"), Policy("old")}


def test_each_listener_has_its_own_table_under_the_profile_of_the_tls_table() -> None:
    config = Config(
        tls=TlsConfig(profile="modern"),
        listeners=(listener(route("www.example.com", backend="127.0.0.1:5")), listener(name="imaps", alpn=("imap",))),
    )
    tables = route_tables(config)
    assert tables["web"].find("www.example.com").backend == "127.0.0.1:5"
    assert tables["imaps"].find("www.example.com").backend == "127.0.0.1:1"
    assert tables["imaps"].otherwise.policy == Policy("modern", (b"imap",))


H2, HTTP, IMAP = b"h2", b"http/1.1", b"imap"
BY_ALPN = (
    route("a.example.com", match_alpn=("h2",), backend="127.0.0.1:2"),
    route("a.example.com", match_alpn=("http/1.1", "http/1.0"), backend="127.0.0.1:3"),
    route("*.example.com", backend="127.0.0.1:4"),
    route("*.example.com", match_alpn=("imap",), backend="127.0.0.1:5"),
)


@pytest.mark.parametrize("routes", list(permutations(BY_ALPN)))
@pytest.mark.parametrize(
    ("name", "offered", "backend"),
    [
        ("a.example.com", (H2, HTTP), "127.0.0.1:2"),
        ("a.example.com", (HTTP, H2), "127.0.0.1:3"),
        ("a.example.com", (b"spdy/3", H2), "127.0.0.1:2"),
        ("a.example.com", (), "127.0.0.1:4"),
        ("a.example.com", (IMAP,), "127.0.0.1:5"),
        ("b.example.com", (H2,), "127.0.0.1:4"),
        ("example.com", (H2,), "127.0.0.1:1"),
        (None, (H2,), "127.0.0.1:1"),
    ],
)
def test_among_a_hosts_routes_the_clients_first_protocol_decides_and_then_the_one_for_any(
    routes: tuple[RouteConfig, ...], name: str | None, offered: tuple[bytes, ...], backend: str
) -> None:
    assert RouteTable(listener(*routes), "intermediate").find(name, offered).backend == backend


def test_a_route_for_certain_protocols_offers_only_those() -> None:
    chosen = route("a.example.com", match_alpn=("h2", "spdy/3"))
    offering = RouteTable(listener(chosen, alpn=("http/1.1", "h2")), "intermediate")
    assert offering.find("a.example.com", (H2,)).policy.alpn == (H2,)
    silent = RouteTable(listener(chosen), "intermediate")
    assert silent.find("a.example.com", (H2,)).policy.alpn == (H2, b"spdy/3")
    own = RouteTable(listener(route("a.example.com", match_alpn=("h2",), alpn=("h2", "http/1.1"))), "intermediate")
    assert own.find("a.example.com", (H2,)).policy.alpn == (H2, HTTP)


def test_routes_that_do_not_terminate_need_no_front_context() -> None:
    table = RouteTable(
        listener(route("a.example.com", action="passthrough"), route("b.example.com", action="reject"), alpn=("h2",)),
        "modern",
    )
    assert table.find("a.example.com").action is Action.PASSTHROUGH
    assert table.find("b.example.com").action is Action.REJECT
    assert table.policies == {Policy("modern", (H2,))}
