from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.addresses import TcpAddress, UnixAddress
from proxy.backend_header import of_client, of_snigate, tlvs
from proxy.dial import RETRY_UNIX
from proxy.proxy_protocol import SIGNATURE_V2, encode_v2
from proxy.resolver import Resolver, targets_without_look_up
from tests.support.engine import ESTABLISHED, NEGOTIATED
from tests.support.loop import in_loop
from tests.support.pool import Dialled, end, pool, visit
from tests.support.ports import free_port


@pytest.fixture
def listening() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


@in_loop
async def test_a_dial_gives_a_connected_socket_that_does_not_block_or_delay(listening: socket.socket) -> None:
    connected = await Dialled(pool(port_of(listening))).connected()
    sock = connected.socket
    assert sock.getpeername() == listening.getsockname()
    assert sock.getblocking() is False
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert connected.server == f"127.0.0.1:{port_of(listening)}"
    end(connected)


@in_loop
async def test_a_unix_socket_is_dialled_without_any_look_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        end(await Dialled(pool(UnixAddress(tmp_path / "s"))).connected())


@in_loop
async def test_a_refused_connection_is_told_in_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    one = pool(port)
    for _ in range(3):
        assert await Dialled(one).reason() == f"server 127.0.0.1:{port}: Connection refused"
    (said,) = caplog.messages
    assert said.startswith(f"backend web: server 127.0.0.1:{port} cannot be reached: Connection refused; ")
    assert said.endswith("its clients are turned away until it can")
    with socket.create_server(("127.0.0.1", port)):
        assert [await visit(one) for _ in range(3)] == [f"127.0.0.1:{port}"] * 3
    assert caplog.messages == [said, f"backend web: server 127.0.0.1:{port} can be reached again"]


@in_loop
async def test_a_unix_socket_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    assert (
        await Dialled(pool(UnixAddress(tmp_path / "s"))).reason()
        == f"server unix:{tmp_path / 's'}: No such file or directory"
    )


@in_loop
async def test_a_server_that_fails_makes_way_for_the_next_and_is_left_alone_for_a_while(
    listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    down, up = free_port(), port_of(listening)
    one = pool(down, up, balance="round-robin")
    assert {await visit(one) for _ in range(6)} == {f"127.0.0.1:{up}"}
    assert [member.active for member in one.servers] == [0, 0]
    assert caplog.messages == [
        f"backend web: server 127.0.0.1:{down} cannot be reached: Connection refused; "
        "another server is used while there is one"
    ]


@in_loop
async def test_a_connection_tries_each_server_once_and_then_says_so() -> None:
    first, second = free_port(), free_port()
    reason = await Dialled(pool(first, second)).reason()
    assert reason == f"none of 2 servers, the last 127.0.0.1:{second}: Connection refused"


@in_loop
async def test_least_connections_counts_what_is_open_and_what_is_being_dialled(
    tmp_path: Path, listening: socket.socket
) -> None:
    full, waiting = full_unix_socket(tmp_path / "s")
    with full:
        one = pool(UnixAddress(tmp_path / "s"), port_of(listening))
        dialled = [Dialled(one) for _ in range(6)]
        assert [member.active for member in one.servers] == [3, 3]
        assert [each.dial is None for each in dialled] == [False, True] * 3
        for waiter in dialled[::2]:
            waiter.cancel()
        assert [member.active for member in one.servers] == [0, 3]
        connected = [await each.connected() for each in dialled[1::2]]
        for each in connected:
            end(each)
        assert [member.active for member in one.servers] == [0, 0]
        assert [address.active for member in one.servers for address in member.addresses.members] == [0, 0]
    for client in waiting:
        client.close()


@in_loop
async def test_every_address_of_a_name_is_tried_before_its_server_has_failed(
    listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    port = port_of(listening)
    one = pool(TcpAddress("localhost", port))
    one.servers[0].resolved([(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))])
    for _ in range(4):
        assert await visit(one) == f"localhost:{port}"
    assert caplog.messages == []


@in_loop
async def test_all_addresses_of_a_name_take_their_turns(listening: socket.socket) -> None:
    port = port_of(listening)
    with socket.create_server(("127.0.0.2", port)):
        one = pool(TcpAddress("web.example", port))
        one.servers[0].resolved((socket.AF_INET, (host, port)) for host in ("127.0.0.1", "127.0.0.2"))
        peers = set()
        for _ in range(4):
            connected = await Dialled(one).connected()
            peers.add(connected.socket.getpeername()[0])
            end(connected)
        assert peers == {"127.0.0.1", "127.0.0.2"}


@in_loop
async def test_what_is_known_of_an_address_outlives_a_new_answer(listening: socket.socket) -> None:
    one = pool(TcpAddress("web.example", 80)).servers[0]
    one.resolved([(socket.AF_INET, ("127.0.0.1", 80)), (socket.AF_INET, ("127.0.0.2", 80))])
    kept = one.addresses.members[1]
    one.resolved([(socket.AF_INET, ("127.0.0.2", 80)), (socket.AF_INET, ("127.0.0.3", 80))])
    assert one.addresses.members[0] is kept


class Answers:
    """A loop whose resolver gives these answers, and then fails."""

    def __init__(self, *answers: tuple[str, int]) -> None:
        self._answers = iter(answers)

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        try:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", next(self._answers))]
        except StopIteration:
            raise socket.gaierror(-2, "Name or service not known") from None


def resolve(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> None:
    monkeypatch.setattr("proxy.resolver.asyncio.get_running_loop", lambda: answers)


@in_loop
async def test_a_name_that_does_not_resolve_fails_each_dial(caplog: pytest.LogCaptureFixture) -> None:
    one = pool(TcpAddress("nowhere.invalid", 80))
    with pytest.MonkeyPatch.context() as patch:
        resolve(patch, Answers())
        await one.resolver._resolve(one.servers[0])
        await one.resolver._resolve(one.servers[0])
    (message,) = caplog.messages
    assert message.startswith("backend web: the name nowhere.invalid does not resolve (")
    assert await Dialled(one).reason() == "server nowhere.invalid:80: its name does not resolve"


@in_loop
async def test_the_last_answer_is_kept_when_a_name_stops_resolving(
    listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = pool(TcpAddress("web.example", port_of(listening)))
    address = listening.getsockname()
    for answers in (Answers(address), Answers(), Answers(), Answers(address)):
        with pytest.MonkeyPatch.context() as patch:
            resolve(patch, answers)
            await one.resolver._resolve(one.servers[0])
        await visit(one)
    failed, again = caplog.messages
    assert "Name or service not known" in failed
    assert "its last addresses are used" in failed
    assert again == "backend web: the name web.example resolves again"


@in_loop
async def test_a_name_that_takes_long_to_resolve_holds_up_no_other() -> None:
    one = pool(TcpAddress("slow.example", 80), TcpAddress("fast.example", 80))
    resolved = asyncio.Event()

    class Loop:
        async def getaddrinfo(self, host: str, *_: Any, **__: Any) -> Any:
            if host == "slow.example":
                await asyncio.Event().wait()
            resolved.set()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.resolver.RESOLVE_SOON", 0.0)
        patch.setattr("proxy.resolver.asyncio.get_running_loop", Loop)
        task = asyncio.create_task(Resolver("web", one.servers).keep())
        await resolved.wait()
        await asyncio.sleep(0)
    assert [len(server.addresses.members) for server in one.servers] == [0, 1]
    task.cancel()


def test_addresses_need_no_look_up_and_names_do(tmp_path: Path) -> None:
    assert targets_without_look_up(TcpAddress("::1", 80)) == [(socket.AF_INET6, ("::1", 80, 0, 0))]
    assert targets_without_look_up(UnixAddress(tmp_path)) == [(socket.AF_UNIX, str(tmp_path))]
    assert targets_without_look_up(TcpAddress("localhost", 80)) == []


def full_unix_socket(path: Path) -> tuple[socket.socket, list[socket.socket]]:
    """A listening Unix socket whose queue has no room, and the connections that fill it."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(0)
    waiting = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        waiting.append(client)
        try:
            client.connect(str(path))
        except BlockingIOError:
            return server, waiting


@in_loop
async def test_a_server_that_does_not_answer_is_given_up_after_the_time_out(tmp_path: Path) -> None:
    server, waiting = full_unix_socket(tmp_path / "s")
    assert (
        await Dialled(pool(UnixAddress(tmp_path / "s"), timeout=0.2)).reason()
        == f"server unix:{tmp_path / 's'}: no answer within 0.2 s"
    )
    for sock in (server, *waiting):
        sock.close()


@in_loop
async def test_a_server_that_does_not_answer_makes_way_for_the_next(tmp_path: Path, listening: socket.socket) -> None:
    server, waiting = full_unix_socket(tmp_path / "s")
    one = pool(UnixAddress(tmp_path / "s"), TcpAddress("127.0.0.1", port_of(listening)), timeout=0.2)
    assert await visit(one) == f"127.0.0.1:{port_of(listening)}"
    for sock in (server, *waiting):
        sock.close()


@in_loop
async def test_a_full_unix_socket_is_tried_again_until_it_has_room(tmp_path: Path) -> None:
    server, waiting = full_unix_socket(tmp_path / "s")
    dialled = Dialled(pool(UnixAddress(tmp_path / "s")))
    accepted = server.accept()[0]
    end(await dialled.connected())
    for one in (accepted, server, *waiting):
        one.close()


@in_loop
async def test_a_cancelled_dial_calls_nobody_and_counts_nowhere(tmp_path: Path, listening: socket.socket) -> None:
    full, waiting = full_unix_socket(tmp_path / "s")
    busy, missing = pool(UnixAddress(tmp_path / "s")), pool(UnixAddress(tmp_path / "missing"))
    nameless = pool(TcpAddress("nowhere.invalid", 80))
    cancelled = [Dialled(busy), Dialled(missing), Dialled(nameless)]
    for each in cancelled:
        each.cancel()
        each.cancel()
    for sock in (full, *waiting):
        sock.close()
    await visit(pool(port_of(listening)))
    await asyncio.sleep(2 * RETRY_UNIX)  # by then the others would have been told
    assert not any(each.times_told for each in cancelled)
    assert [each.servers[0].active for each in (busy, missing, nameless)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("client_address", "waits", "check"),
    [
        ("none", False, lambda header: header == b""),
        ("proxy-v1", True, lambda header: header == b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n"),
        ("proxy-v2", True, lambda header: header.startswith(SIGNATURE_V2) and b"www.example.com" in header),
    ],
)
@in_loop
async def test_a_backend_is_told_of_the_client_as_it_is_configured(
    listening: socket.socket, client_address: str, waits: bool, check: Callable[[bytes], bool]
) -> None:
    one = pool(port_of(listening), client_address=client_address)
    assert one.waits_for_handshake is waits
    connected = await Dialled(one, ESTABLISHED).connected()
    assert check(connected.first)
    end(connected)


def test_proxy_v2_says_alpn_server_name_and_that_the_client_came_by_tls() -> None:
    said = dict(tlvs(ESTABLISHED))
    assert said[0x01] == b"h2"
    assert said[0x02] == b"www.example.com"
    assert said[0x20][0] & 1
    assert b"TLSv1.3" in said[0x20]


def test_proxy_v2_leaves_out_what_the_client_did_not_say() -> None:
    plain = NEGOTIATED._replace(alpn="")
    assert [kind for kind, _ in tlvs(ESTABLISHED._replace(server_name=None, negotiated=plain))] == [0x05, 0x20]


def test_an_ipv4_client_of_a_dual_stack_socket_is_told_as_ipv4() -> None:
    mapped = ESTABLISHED._replace(local=("::ffff:198.51.100.1", 443))
    assert of_client("proxy-v2", mapped) == of_client("proxy-v2", ESTABLISHED)
    assert of_client("proxy-v2", mapped) == encode_v2(ESTABLISHED.client, ESTABLISHED.local, tlvs(ESTABLISHED))


def test_a_connection_of_snigates_own_says_that_it_is_no_clients() -> None:
    assert of_snigate("none") == b""
    assert of_snigate("proxy-v1") == b"PROXY UNKNOWN\r\n"
    assert of_snigate("proxy-v2") == SIGNATURE_V2 + b"\x20\0\0\0"
