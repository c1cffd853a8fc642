"""A client's handshake with a real session: whichever way its ClientHello comes, OpenSSL has the socket in the end."""

from __future__ import annotations

import asyncio

import pytest

from proxy.handshake import PEEK_SIZE
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
    await Peer(far).send(b"\x16\x03\x01" + bytes(PEEK_SIZE // 4))
    assert one.limits.admit("192.0.2.1")
    session = Session(one, near, ("192.0.2.1", 1))
    assert session.state is State.OVER
    assert session.account.reason == "malformed_client_hello"
    alert, end = await Peer(far).rest()
    assert (alert[:5], end) == (bytes((21, 3, 3, 0, 2)), "FIN")
    far.close()
