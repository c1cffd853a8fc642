from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from config.addresses import TcpAddress
from config.model import Config, ListenerConfig
from proxy.sockets import (
    BACKLOG,
    BindError,
    Bound,
    bind_listeners,
    bind_tcp,
    bind_unix,
    bound_addresses,
    covers,
    share_of,
    sockets_of,
)


def config(*bind: TcpAddress, name: str = "web") -> Config:
    return Config(listeners=(ListenerConfig(name=name, bind=bind, backend="127.0.0.1:1"),))


def opened(bound: tuple[Bound, ...]) -> tuple[Bound, ...]:
    """Let all of them listen, as the supervisor does."""
    for sock in sockets_of(bound):
        sock.listen(BACKLOG)
    return bound


def close(*bounds: tuple[Bound, ...]) -> None:
    for bound in bounds:
        for sock in sockets_of(bound):
            sock.close()


def accepted(sock: socket.socket) -> int:
    """How many connections wait on a socket; they are accepted and closed."""
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def free_address(host: str = "127.0.0.1") -> TcpAddress:
    with socket.create_server((host, 0)) as probe:
        return TcpAddress(*probe.getsockname())


def test_every_slot_has_a_socket_of_its_own_on_one_port() -> None:
    bound = bind_listeners(config(TcpAddress("127.0.0.1", 0), TcpAddress("127.0.0.1", 0)), 3)
    first, second = bound_addresses(bound)["web"]
    assert first != second
    assert [{sock.getsockname() for sock in one.slots} for one in bound] == [
        {("127.0.0.1", int(text.rpartition(":")[2]))} for text in (first, second)
    ]
    assert len({sock.fileno() for sock in sockets_of(bound)}) == 6
    assert not any(sock.getblocking() for sock in sockets_of(bound))
    close(bound)


def test_connections_are_spread_over_the_slots() -> None:
    bound = opened(bind_listeners(config(TcpAddress("127.0.0.1", 0)), 2))
    sockets = sockets_of(bound)
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(64)]
    counts = [accepted(sock) for sock in sockets]
    assert sum(counts) == 64
    assert min(counts) > 0
    close(bound)
    for client in clients:
        client.close()


def test_a_second_instance_on_an_address_is_refused_by_name_and_leaves_nothing_bound() -> None:
    first = opened(bind_listeners(config(TcpAddress("127.0.0.1", 0)), 2))
    taken, free = TcpAddress(*sockets_of(first)[0].getsockname()), free_address()
    with pytest.raises(BindError) as caught:
        bind_listeners(config(free, taken, name="imaps"), 2)
    assert str(caught.value) == (
        f"listener imaps: cannot bind {taken}: Address already in use; "
        "another program listens there; stop it, or give this listener another address"
    )
    close(bind_listeners(config(free), 1))
    close(first)
    close(bind_listeners(config(taken), 1))


def test_every_address_that_cannot_be_bound_is_named() -> None:
    with pytest.raises(BindError) as caught:
        bind_listeners(config(TcpAddress("203.0.113.1", 443), TcpAddress("203.0.113.2", 443)), 1)
    first, second = str(caught.value).splitlines()
    for address, line in (("203.0.113.1:443", first), ("203.0.113.2:443", second)):
        assert f"cannot bind {address}" in line
        assert "this machine does not have that address" in line


def test_what_is_still_wanted_is_kept_and_the_rest_is_bound() -> None:
    stays, goes, comes = free_address(), free_address(), free_address()
    before = opened(bind_listeners(config(stays, goes), 2))
    after = bind_listeners(config(comes, stays, name="other"), 2, before)
    assert {one.address: one.listener for one in after} == {comes: "other", stays: "other"}
    kept = {one.address: one.slots for one in before}
    assert {one.address: one.slots for one in after}[stays] == kept[stays]
    assert not set(kept[goes]) & set(sockets_of(after))
    close(before, after)


def test_a_new_socket_does_not_listen_before_it_is_told_to() -> None:
    bound = bind_listeners(config(free_address()), 1)
    address = sockets_of(bound)[0].getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    opened(bound)
    socket.create_connection(address).close()
    close(bound)


def test_what_could_not_be_bound_leaves_what_is_kept_alone() -> None:
    stays = free_address()
    before = opened(bind_listeners(config(stays), 2))
    with pytest.raises(BindError):
        bind_listeners(config(stays, TcpAddress("203.0.113.1", 443)), 3, before)
    assert all(sock.fileno() >= 0 for sock in sockets_of(before))
    with socket.create_connection((stays.host, stays.port)):
        assert sum(accepted(sock) for sock in sockets_of(before)) == 1
    close(before)


def test_more_workers_get_more_slots_and_connections_that_wait_stay_where_they_are() -> None:
    address = free_address()
    before = opened(bind_listeners(config(address), 1))
    clients = [socket.create_connection((address.host, address.port)) for _ in range(32)]
    after = opened(bind_listeners(config(address), 3, before))
    assert after[0].slots[:1] == before[0].slots
    clients += [socket.create_connection((address.host, address.port)) for _ in range(64)]
    counts = [accepted(sock) for sock in sockets_of(after)]
    assert sum(counts) == 96
    assert min(counts) > 0
    close(after)
    for client in clients:
        client.close()


def test_fewer_workers_take_over_the_slots_of_those_that_go() -> None:
    address = free_address()
    before = bind_listeners(config(address), 5)
    after = bind_listeners(config(address), 2, before)
    assert after == before
    shares = [share_of(worker, 2, after)["web"] for worker in range(2)]
    slots = after[0].slots
    assert shares == [[slots[0], slots[2], slots[4]], [slots[1], slots[3]]]
    close(after)


def test_an_address_that_was_given_before_gets_only_as_many_slots_as_are_missing() -> None:
    address = free_address()
    first = bind_listeners(config(address), 3)
    second = bind_listeners(config(address), 1, first)
    third = bind_listeners(config(address), 4, second)
    assert third[0].slots[:3] == first[0].slots
    assert len(third[0].slots) == 4
    close(third)


@pytest.mark.parametrize(("old", "new"), [(None, "0.0.0.0"), ("0.0.0.0", None), (None, "127.0.0.1"), ("::", None)])
def test_an_address_may_become_wider_or_narrower(old: str | None, new: str | None) -> None:
    port = free_address("0.0.0.0").port
    before = opened(bind_listeners(config(TcpAddress(old, port)), 2))
    after = opened(bind_listeners(config(TcpAddress(new, port)), 2, before))
    assert not set(sockets_of(before)) & set(sockets_of(after))
    close(before)
    host = "127.0.0.1" if new != "::" else "::1"
    with socket.create_connection((host, port)):
        assert sum(accepted(sock) for sock in sockets_of(after)) == 1
    close(after)


def test_another_programs_address_is_refused_even_where_ours_covers_its_port() -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        before = opened(bind_listeners(config(TcpAddress("127.0.0.1", port)), 1))
        with pytest.raises(BindError, match="another program listens there"):
            bind_listeners(config(TcpAddress("127.0.0.1", port), TcpAddress("0.0.0.0", port)), 1, before)
        close(before)


def test_a_socket_covers_its_own_port_on_its_own_host_or_on_every() -> None:
    bound = bind_listeners(config(TcpAddress("127.0.0.1", 0)), 1)
    (sock,) = sockets_of(bound)
    port = sock.getsockname()[1]
    assert all(covers(TcpAddress(host, port), sock) for host in ("127.0.0.1", "localhost", "0.0.0.0", None))
    assert not covers(TcpAddress("127.0.0.2", port), sock)
    assert not covers(TcpAddress("127.0.0.1", port ^ 1), sock)
    close(bound)


def test_all_addresses_means_both_families() -> None:
    bound = opened(bind_listeners(config(TcpAddress(None, 0)), 1))
    (sock,) = sockets_of(bound)
    assert sock.family == socket.AF_INET6
    port = sock.getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port)).close()
    close(bound)


def test_an_ipv6_address_leaves_ipv4_alone() -> None:
    bound = opened(bind_listeners(config(TcpAddress("::1", 0)), 1))
    port = sockets_of(bound)[0].getsockname()[1]
    assert bound_addresses(bound) == {"web": [f"[::1]:{port}"]}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    close(bound)


def test_accepted_sockets_do_not_delay_small_writes() -> None:
    bound = opened(bind_listeners(config(TcpAddress("127.0.0.1", 0)), 1))
    (sock,) = sockets_of(bound)
    with socket.create_connection(sock.getsockname()):
        sock.setblocking(True)
        connection, _ = sock.accept()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()
    close(bound)


def test_the_admin_address_belongs_to_one_instance() -> None:
    first = bind_tcp("admin.listen", TcpAddress("127.0.0.1", 0))
    first.listen()
    address = TcpAddress(*first.getsockname())
    what = f"admin.listen: cannot bind {address}: Address already in use; .* set admin.listen to another address"
    with pytest.raises(BindError, match=what):
        bind_tcp("admin.listen", address)
    bind_tcp("admin.listen", TcpAddress(None, address.port), (first,)).close()
    first.close()


def test_a_unix_socket_is_its_owners_alone_and_replaces_one_left_over(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    before = os.umask(0o000)
    try:
        bind_unix(path).close()
        assert path.is_socket()
        again = bind_unix(path)
        assert os.umask(0) == 0, "the process's own umask is put back"
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    again.close()


def test_a_unix_socket_in_a_very_deep_directory_can_be_bound(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    bind_unix(deep / "keeper.sock").close()
    assert (deep / "keeper.sock").is_socket()


def test_a_unix_socket_that_cannot_be_made_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "control.sock"
    with pytest.raises(BindError, match=r"missing/control\.sock: cannot bind .*correct the state directory"):
        bind_unix(path)


def test_a_host_name_that_does_not_resolve_is_told_without_numbers() -> None:
    with pytest.raises(BindError, match=r"nowhere\.invalid:1: the host name cannot be resolved") as caught:
        bind_tcp("metrics.listen", TcpAddress("nowhere.invalid", 1))
    assert "Errno" not in str(caught.value)
