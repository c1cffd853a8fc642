from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from config.addresses import TcpAddress
from proxy.contexts import front_context
from proxy.errors import HandshakeError
from proxy.proxy_protocol import SIGNATURE_V2
from proxy.tls_engine import TlsEngine
from tests.support.engine import ESTABLISHED, INTERMEDIATE, engine_for
from tests.support.loop import in_loop
from tests.support.pki import Authority, self_signed
from tests.support.pool import Dialled, end, pool

NAME = "localhost"
ROOT = Authority.make()
PAIR = ROOT.issue(NAME)


class Accepting:
    """A listening socket whose connections a test answers step by step."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    async def accept(self) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        connection.setblocking(False)
        return connection

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def accepting() -> Any:
    one = Accepting()
    yield one
    one.close()


def tls_pool(tmp_path: Path, *ports: int, **keys: Any) -> Any:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    made = pool(*(TcpAddress(NAME, port) for port in ports), tls="verify", tls_ca=str(tmp_path / "ca.pem"), **keys)
    for server, port in zip(made.servers, ports, strict=True):
        server.resolved([(socket.AF_INET, ("127.0.0.1", port))])
    return made


async def serve(sock: socket.socket, engine: TlsEngine, *, skip: int = 0) -> bytes:
    """The server's part of a handshake; what came before the ClientHello, `skip` bytes of it."""
    loop = asyncio.get_running_loop()
    before = b""
    while len(before) < skip:
        before += await loop.sock_recv(sock, skip - len(before))
    while not engine.handshake():
        await loop.sock_sendall(sock, engine.output())
        engine.receive(await loop.sock_recv(sock, 4096))
    await loop.sock_sendall(sock, engine.output())
    return before


@in_loop
async def test_a_connection_with_tls_is_ready_when_the_certificate_is_verified(
    tmp_path: Path, accepting: Accepting
) -> None:
    dialled = Dialled(tls_pool(tmp_path, accepting.port))
    sock = await accepting.accept()
    engine = engine_for(pair=PAIR)
    await serve(sock, engine)
    connected = await dialled.connected()
    assert connected.layer.marks_end
    assert connected.first == b""
    await asyncio.get_running_loop().sock_sendall(sock, engine.encode(b"hello"))
    data, server = b"", connected.dress()
    while not data:
        data = bytes(connected.layer.decode(await asyncio.get_running_loop().sock_recv(server, 4096)))
    assert data == b"hello"
    end(connected)
    sock.close()


@in_loop
async def test_the_proxy_header_goes_before_tls(tmp_path: Path, accepting: Accepting) -> None:
    dialled = Dialled(tls_pool(tmp_path, accepting.port, client_address="proxy-v2"), ESTABLISHED)
    sock = await accepting.accept()
    head = await serve_header(sock)
    assert head.startswith(SIGNATURE_V2)
    await serve(sock, engine_for(pair=PAIR))
    end(await dialled.connected())
    sock.close()


async def serve_header(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    head = await loop.sock_recv(sock, 16)
    return head + await loop.sock_recv(sock, int.from_bytes(head[14:16]))


@in_loop
async def test_a_handshake_that_fails_goes_on_to_the_next_server(
    tmp_path: Path, accepting: Accepting, caplog: pytest.LogCaptureFixture
) -> None:
    other = Accepting()
    made = tls_pool(tmp_path, accepting.port, other.port)
    dialled = Dialled(made)
    bad = await accepting.accept()
    failing = asyncio.ensure_future(serve(bad, engine_for(pair=self_signed(NAME))))
    good = await other.accept()
    await serve(good, engine_for(pair=PAIR))
    connected = await dialled.connected()
    assert connected.server == f"{NAME}:{other.port}"
    with pytest.raises(HandshakeError, match="does not trust"):
        await failing
    assert "its certificate comes from no authority in tls_ca" in caplog.text
    assert [server.in_service for server in made.servers] == [False, True]
    end(connected)
    assert [server.active for server in made.servers] == [0, 0]
    for sock in (bad, good):
        sock.close()
    other.close()


@pytest.mark.parametrize("way", ["close", "plain text", "silence"])
@in_loop
async def test_a_server_that_does_not_do_its_part_is_told_in_words(
    tmp_path: Path, accepting: Accepting, way: str
) -> None:
    dialled = Dialled(tls_pool(tmp_path, accepting.port, timeout=0.3 if way == "silence" else 5.0))
    sock = await accepting.accept()
    if way == "plain text":
        await asyncio.get_running_loop().sock_sendall(sock, b"* OK ready\r\n")
    if way == "close":
        await asyncio.get_running_loop().sock_recv(sock, 4096)
        sock.close()
    said = {
        "close": "it closed the connection during the TLS handshake (its log may say why)",
        "plain text": "it does not answer in TLS (is this its TLS port?)",
        "silence": "the TLS handshake was not done within 0.3 s",
    }
    assert (await dialled.reason()).endswith(f": {said[way]}")
    sock.close()


@in_loop
async def test_a_dial_that_is_cancelled_during_the_handshake_closes_its_connection(
    tmp_path: Path, accepting: Accepting
) -> None:
    made = tls_pool(tmp_path, accepting.port)
    dialled = Dialled(made)
    sock = await accepting.accept()
    await asyncio.get_running_loop().sock_recv(sock, 4096)
    dialled.cancel()
    assert await asyncio.get_running_loop().sock_recv(sock, 4096) == b""
    assert not dialled.times_told
    assert made.servers[0].active == 0
    sock.close()


@in_loop
async def test_what_a_server_says_right_behind_its_handshake_is_not_lost(tmp_path: Path, accepting: Accepting) -> None:
    dialled = Dialled(tls_pool(tmp_path, accepting.port))
    sock = await accepting.accept()
    front = front_context(INTERMEDIATE)
    front.set_max_proto_version(SSL.TLS1_2_VERSION)  # where the server is the one whose Finished comes last
    loop, engine = asyncio.get_running_loop(), engine_for(pair=PAIR, front=front)
    engine.receive(await loop.sock_recv(sock, 4096))
    assert not engine.handshake()
    await loop.sock_sendall(sock, engine.output())
    engine.receive(await loop.sock_recv(sock, 4096))
    assert engine.handshake()
    await loop.sock_sendall(sock, bytes(engine.output()) + engine.encode(b"220 ready\r\n"))
    connected = await dialled.connected()
    assert bytes(connected.layer.decode(b"")) == b"220 ready\r\n"
    end(connected)
    sock.close()
