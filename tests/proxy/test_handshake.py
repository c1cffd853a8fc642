"""A client's handshake with a real session: whichever way its ClientHello comes, OpenSSL has the socket in the end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.handshake import READ_SIZE
from proxy.proxy_header import ProxyHeaderReader
from proxy.session import Session, State
from tests.support.engine import MemoryClient, client_context
from tests.support.loop import Peer, TlsPeer, in_loop, tcp_pair
from tests.support.pki import self_signed
from tests.support.service import NAME, service

PAIR = self_signed(NAME)
HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n"
WAYS = {
    "whole": (b"", None, None),
    "in two pieces": (b"", 40, None),
    "byte by byte": (b"", 1, "X25519"),
    "behind a PROXY header": (HEADER, None, None),
    "twice": (b"", None, "P-521:X25519"),
}


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_the_socket_is_openssls_when_the_handshake_is_done_and_both_streams_are_whole(way: str) -> None:
    header, cut, groups = WAYS[way]
    one = service(PAIR, handshake_timeout=60, idle_timeout=60)
    near, far = tcp_pair()
    client = MemoryClient(client_context(groups=groups), NAME.encode())
    client.handshake()
    hello = header + client.output()
    introduction = ProxyHeaderReader() if header else None
    if introduction is None:
        assert one.limits.admit("192.0.2.1")
    else:
        one.limits.admit_unnamed()
    session = Session(one, near, ("192.0.2.1", 1), introduction)
    while hello:
        piece, hello = hello[: cut or len(hello)], hello[cut or len(hello) :]
        await Peer(far).send(piece)
        await asyncio.sleep(0.001)
        if cut and cut > 1:
            cut = None
    peer = TlsPeer(far, client)
    client.receive(await Peer(far).some())
    await peer.handshake()
    while session.state is not State.RELAYING:
        await asyncio.sleep(0.001)
    await peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer, end = await peer.rest()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"</html>\n")
    assert end == "close_notify"
    assert session._engine is not None
    assert session._engine.direct
    far.close()
    while one.sessions:
        await asyncio.sleep(0.001)


@in_loop
async def test_what_is_no_client_hello_is_refused_however_much_of_it_there_is() -> None:
    one = service(PAIR, handshake_timeout=60, idle_timeout=60)
    near, far = tcp_pair()
    await Peer(far).send(b"\x16\x03\x01" + bytes(READ_SIZE // 4))
    assert one.limits.admit("192.0.2.1")
    session = Session(one, near, ("192.0.2.1", 1))
    assert session.state is State.OVER
    assert session.account.reason == "malformed_client_hello"
    alert, end = await Peer(far).rest()
    assert (alert[:5], end) == (bytes((21, 3, 3, 0, 2)), "FIN")
    far.close()


@in_loop
async def test_nobody_has_the_loop_for_longer_than_what_one_read_holds() -> None:
    one = service(PAIR, handshake_timeout=60, idle_timeout=60)
    near, far = tcp_pair()
    client = MemoryClient(client_context(groups="X25519"), NAME.encode())
    client.handshake()
    hello = offering_early_data(client.output())
    skipped = b"\x17\x03\x03\0\0" * (8 * READ_SIZE // 5)  # early data that is refused: records that OpenSSL passes over
    sent = far.send(hello + skipped)
    assert sent > 3 * READ_SIZE
    assert one.limits.admit("192.0.2.1")
    session = Session(one, near, ("192.0.2.1", 1))
    unread = len(near.recv(1 << 20, socket.MSG_PEEK))
    assert session.state is State.HANDSHAKING
    assert len(await asyncio.get_running_loop().sock_recv(far, 1 << 16)) > 500, "the server's flight"
    assert unread > sent - 2 * READ_SIZE
    session.cut()
    far.close()


def offering_early_data(record: bytes) -> bytes:
    """The same ClientHello with an empty early_data extension."""
    body = bytearray(record[9:])
    at = 34 + 1 + body[34]
    at += 2 + int.from_bytes(body[at : at + 2])
    at += 1 + body[at]
    body[at : at + 2] = (int.from_bytes(body[at : at + 2]) + 4).to_bytes(2)
    body += b"\0\x2a\0\0"
    return record[:3] + (len(body) + 4).to_bytes(2) + b"\1" + len(body).to_bytes(3) + bytes(body)
