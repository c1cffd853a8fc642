from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from config.addresses import TcpAddress
from config.model import Config, ListenerConfig
from proxy.sockets import BindError, Slot, bind_slots, bind_tcp, bind_unix, bound_addresses
from proxy.supervisor import slot_sockets


def config(*bind: TcpAddress, name: str = "web") -> Config:
    return Config(listeners=(ListenerConfig(name=name, bind=bind, backend="127.0.0.1:1"),))


def close(slots: list[Slot]) -> None:
    for slot in slots:
        slot.close()


def test_every_slot_has_a_socket_of_its_own_on_one_port() -> None:
    slots = bind_slots(config(TcpAddress("127.0.0.1", 0), TcpAddress("127.0.0.1", 0)), 3)
    addresses = [bound_addresses(slot) for slot in slots]
    assert [slot.number for slot in slots] == [0, 1, 2]
    assert addresses[0] == addresses[1] == addresses[2]
    assert len(set(addresses[0]["web"])) == 2
    assert len({sock.fileno() for sock in slot_sockets(slots)}) == 6
    assert not any(sock.getblocking() for sock in slot_sockets(slots))
    close(slots)


def test_connections_are_spread_over_the_slots() -> None:
    slots = bind_slots(config(TcpAddress("127.0.0.1", 0)), 2)
    sockets = slot_sockets(slots)
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(64)]
    counts = []
    for sock in sockets:
        counts.append(0)
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            counts[-1] += 1
    assert sum(counts) == 64
    assert min(counts) > 0
    close(slots)
    for client in clients:
        client.close()


def test_a_second_instance_on_an_address_is_refused_by_name_and_leaves_nothing_bound() -> None:
    first = bind_slots(config(TcpAddress("127.0.0.1", 0)), 2)
    taken = TcpAddress(*slot_sockets(first)[0].getsockname())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = TcpAddress(*probe.getsockname())
    with pytest.raises(BindError) as caught:
        bind_slots(config(free, taken, name="imaps"), 2)
    assert str(caught.value) == (
        f"listener imaps: cannot bind {taken}: Address already in use; "
        "another program listens there; stop it, or give this listener another address"
    )
    close(bind_slots(config(free), 1))
    close(first)
    close(bind_slots(config(taken), 1))


def test_an_address_of_another_machine_is_refused_with_advice() -> None:
    with pytest.raises(BindError, match=r"cannot bind 192\.0\.2\.1:443: .*this machine does not have that address"):
        bind_slots(config(TcpAddress("192.0.2.1", 443)), 1)


def test_all_addresses_means_both_families() -> None:
    slots = bind_slots(config(TcpAddress(None, 0)), 1)
    sock = slot_sockets(slots)[0]
    assert sock.family == socket.AF_INET6
    port = sock.getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port)).close()
    close(slots)


def test_an_ipv6_address_leaves_ipv4_alone() -> None:
    slots = bind_slots(config(TcpAddress("::1", 0)), 1)
    port = slot_sockets(slots)[0].getsockname()[1]
    assert bound_addresses(slots[0]) == {"web": [f"[::1]:{port}"]}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    close(slots)


def test_accepted_sockets_do_not_delay_small_writes() -> None:
    slots = bind_slots(config(TcpAddress("127.0.0.1", 0)), 1)
    sock = slot_sockets(slots)[0]
    with socket.create_connection(sock.getsockname()):
        sock.setblocking(True)
        accepted, _ = sock.accept()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        accepted.close()
    close(slots)


def test_the_admin_address_belongs_to_one_instance() -> None:
    first = bind_tcp("admin.listen", TcpAddress("127.0.0.1", 0))
    address = TcpAddress(*first.getsockname())
    what = f"admin.listen: cannot bind {address}: Address already in use; .* set admin.listen to another address"
    with pytest.raises(BindError, match=what):
        bind_tcp("admin.listen", address)
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
