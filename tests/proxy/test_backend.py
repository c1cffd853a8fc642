from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.addresses import TcpAddress, UnixAddress
from config.model import BackendConfig
from proxy.backend import Dial, SocketBackend, _tlvs, resolve_all
from proxy.proxy_protocol import SIGNATURE_V2, encode_v2
from tests.support.engine import ESTABLISHED, NEGOTIATED
from tests.support.loop import in_loop


def backend(address: TcpAddress | UnixAddress, timeout: float = 5.0, **keys: Any) -> SocketBackend:
    return SocketBackend(BackendConfig(name="web", servers=(address,), **keys), timeout)


class Dialled:
    """Dials, and collects what came of it: a socket or a reason."""

    def __init__(self, one: SocketBackend) -> None:
        self.result: asyncio.Future[socket.socket | str] = asyncio.get_running_loop().create_future()
        self.called_early = False
        returned = False

        def settle(value: socket.socket | str) -> None:
            self.called_early = not returned
            self.result.set_result(value)

        self.dial: Dial = one.dial(asyncio.get_running_loop(), None, settle, settle)
        returned = True

    async def reason(self) -> str:
        result = await self.result
        assert isinstance(result, str)
        assert not self.called_early
        return result


@pytest.fixture
def listening() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address_of(server: socket.socket) -> TcpAddress:
    return TcpAddress(*server.getsockname())


@in_loop
async def test_a_dial_gives_a_connected_socket_that_does_not_block_or_delay(listening: socket.socket) -> None:
    one = backend(address_of(listening))
    await resolve_all([one])
    dialled = Dialled(one)
    sock = await dialled.result
    assert isinstance(sock, socket.socket)
    assert not dialled.called_early
    assert sock.getpeername() == listening.getsockname()
    assert sock.getblocking() is False
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    sock.close()


@in_loop
async def test_a_unix_socket_is_dialled_without_any_look_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        sock = await Dialled(backend(UnixAddress(tmp_path / "s"))).result
        assert isinstance(sock, socket.socket)
        sock.close()


@in_loop
async def test_a_refused_connection_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = address_of(closed)
    one = backend(address)
    await resolve_all([one])
    assert await Dialled(one).reason() == "Connection refused"


@in_loop
async def test_a_unix_socket_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    assert await Dialled(backend(UnixAddress(tmp_path / "s"))).reason() == "No such file or directory"


@in_loop
async def test_a_name_that_does_not_resolve_fails_each_dial(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    one = backend(TcpAddress("nowhere.invalid", 80))

    class Failing:
        async def getaddrinfo(self, *_: Any, **__: Any) -> None:
            raise socket.gaierror(-2, "Name or service not known")

    await one.resolve(Failing())  # type: ignore[arg-type]  # a loop without a resolver
    assert "backend web: the name nowhere.invalid does not resolve" in caplog.text
    assert await Dialled(one).reason() == "its name does not resolve"


@in_loop
async def test_the_last_answer_is_kept_when_a_name_stops_resolving(listening: socket.socket, caplog: Any) -> None:
    one = backend(TcpAddress("localhost", listening.getsockname()[1]))

    class Loop:
        answers = iter([[(socket.AF_INET, socket.SOCK_STREAM, 6, "", listening.getsockname())]])

        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            try:
                return next(self.answers)
            except StopIteration:
                raise socket.gaierror(-3, "Temporary failure in name resolution") from None

    loop = Loop()
    await one.resolve(loop)  # type: ignore[arg-type]  # a loop with a resolver of the test's own
    await one.resolve(loop)  # type: ignore[arg-type]  # the same
    assert "Temporary failure" in caplog.text
    sock = await Dialled(one).result
    assert isinstance(sock, socket.socket)
    sock.close()


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
async def test_a_backend_that_does_not_answer_is_given_up_after_the_time_out(tmp_path: Path) -> None:
    server, waiting = full_unix_socket(tmp_path / "s")
    assert await Dialled(backend(UnixAddress(tmp_path / "s"), timeout=0.2)).reason() == "no answer within 0.2 s"
    for sock in (server, *waiting):
        sock.close()


@in_loop
async def test_a_full_unix_socket_is_tried_again_until_it_has_room(tmp_path: Path) -> None:
    server, waiting = full_unix_socket(tmp_path / "s")
    dialled = Dialled(backend(UnixAddress(tmp_path / "s")))
    accepted = server.accept()[0]
    sock = await dialled.result
    assert isinstance(sock, socket.socket)
    for one in (sock, accepted, server, *waiting):
        one.close()


@in_loop
async def test_a_cancelled_dial_calls_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = backend(address_of(server))
        await resolve_all([one])
        cancelled = [Dialled(one), Dialled(backend(UnixAddress(tmp_path / "missing")))]
        for each in cancelled:
            each.dial.cancel()
            each.dial.cancel()
        sock = await Dialled(one).result  # by then the others would have been called
        assert isinstance(sock, socket.socket)
        sock.close()
        assert not any(each.result.done() for each in cancelled)


@pytest.mark.parametrize(
    ("client_address", "waits", "check"),
    [
        ("none", False, lambda header: header == b""),
        ("proxy-v1", True, lambda header: header == b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n"),
        ("proxy-v2", True, lambda header: header.startswith(SIGNATURE_V2) and b"www.example.com" in header),
    ],
)
def test_a_backend_is_told_of_the_client_as_it_is_configured(
    client_address: str, waits: bool, check: Callable[[bytes], bool]
) -> None:
    one = backend(TcpAddress("127.0.0.1", 1), client_address=client_address)
    assert one.waits_for_handshake is waits
    assert check(one.preamble(ESTABLISHED))


def test_proxy_v2_says_alpn_server_name_and_that_the_client_came_by_tls() -> None:
    said = dict(_tlvs(ESTABLISHED))
    assert said[0x01] == b"h2"
    assert said[0x02] == b"www.example.com"
    assert said[0x20][0] & 1
    assert b"TLSv1.3" in said[0x20]


def test_proxy_v2_leaves_out_what_the_client_did_not_say() -> None:
    plain = NEGOTIATED._replace(alpn="")
    assert [kind for kind, _ in _tlvs(ESTABLISHED._replace(server_name=None, negotiated=plain))] == [0x05, 0x20]


def test_an_ipv4_client_of_a_dual_stack_socket_is_told_as_ipv4() -> None:
    mapped = ESTABLISHED._replace(local=("::ffff:198.51.100.1", 443))
    one = backend(TcpAddress("127.0.0.1", 1), client_address="proxy-v2")
    assert one.preamble(mapped) == one.preamble(ESTABLISHED)
    assert one.preamble(mapped) == encode_v2(ESTABLISHED.client, ESTABLISHED.local, _tlvs(ESTABLISHED))
