"""Whatever a stranger sends and however it goes away, a session ends, is counted once, and raises nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.errors import Outcome
from proxy.proxy_header import ProxyHeaderReader
from proxy.proxy_protocol import encode_v1, encode_v2
from proxy.service import Service
from proxy.session import Session, State
from tests.support import client_hellos as hellos
from tests.support.engine import MemoryClient, client_context
from tests.support.loop import in_loop, tcp_pair
from tests.support.pki import self_signed
from tests.support.service import NAME, service, value

PAIR = self_signed(NAME)
TIMEOUT = 0.05  # seconds for the handshake, and of idleness
HELLOS = (hellos.from_pyopenssl(), hellos.from_stdlib(), hellos.chrome(), hellos.from_pyopenssl(name=None))
HEADERS = (
    encode_v1(("192.0.2.1", 1), ("192.0.2.2", 2)),
    encode_v2(("2001:db8::1", 1), ("2001:db8::2", 2), [(1, b"h2")]),
    encode_v2(None, None, local=True),
    encode_v2(("192.0.2.1", 1), ("192.0.2.2", 2), [(3, b"none")]),
    b"PROXY TCP4 ",
    b"\0",
)
ENDS = ("FIN", "RST", "close", "silence")


class Attack(NamedTuple):
    """What a stranger does: the chunks it sends, one after the other, and how it goes away."""

    chunks: list[bytes]
    end: str


@st.composite
def mutated_hellos(draw: st.DrawFn) -> list[bytes]:
    """A real ClientHello with some bytes changed, cut short or followed by others, in several pieces."""
    hello = bytearray(draw(st.sampled_from(HELLOS)))
    for at in draw(st.lists(st.integers(0, len(hello) - 1), max_size=4)):
        hello[at] ^= draw(st.integers(0, 255))
    data = bytes(hello[: draw(st.integers(1, len(hello)))] if draw(st.booleans()) else hello)
    data += draw(st.binary(max_size=40))
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=4)) | {0, len(data)})
    return [data[one:other] for one, other in pairwise(cuts)]


first_bytes = st.one_of(st.lists(st.binary(min_size=1, max_size=200), max_size=4), mutated_hellos())
attacks = st.builds(Attack, first_bytes, st.sampled_from(ENDS))
visits = st.builds(Attack, st.lists(st.binary(min_size=1, max_size=200), max_size=4), st.sampled_from(ENDS))


def leave(sock: socket.socket, end: str) -> None:
    """Go away."""
    if end == "RST":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if end == "FIN":
        with contextlib.suppress(OSError):  # it may be closed from the other side already
            sock.shutdown(socket.SHUT_WR)
    elif end != "silence":
        sock.close()


async def over(session: Session) -> None:
    """Wait for the end, for which the session's own deadlines provide."""
    async with asyncio.timeout(5):
        while session.state is not State.OVER:
            await asyncio.sleep(0.001)


def assert_counted_once(one: Service, near: socket.socket) -> None:
    """The session that was is gone without a trace but in the counters."""
    outcomes = [outcome for outcome in Outcome for _ in range(int(value(one.metrics.outcomes[outcome])))]
    failures = [reason for reason, counter in one.metrics.failures.items() for _ in range(int(value(counter)))]
    assert len(outcomes) == 1
    assert len(failures) == (outcomes == [Outcome.HANDSHAKE_FAILED])
    assert value(one.metrics.active) == 0
    assert one.limits.open == 0
    assert one.sessions == set()
    assert near.fileno() == -1


async def play(attack: Attack, client: MemoryClient | None, *, introduced: bool = False) -> None:
    """One attack on a fresh service. With `client`, its chunks come behind a whole handshake; if it is to be
    `introduced`, they come from a trusted proxy, and are to begin with a PROXY header.
    """
    one = service(PAIR, handshake_timeout=TIMEOUT if client is None else 5, idle_timeout=TIMEOUT)
    near, far = tcp_pair()
    if introduced:
        one.limits.admit_unnamed()
    else:
        assert one.limits.admit("127.0.0.1")
    session = Session(one, near, ("127.0.0.1", 1), ProxyHeaderReader() if introduced else None)
    if client is not None:
        await shake_hands(client, far)
    for chunk in attack.chunks:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(far, chunk)
        await asyncio.sleep(0)
    leave(far, attack.end)
    await over(session)
    assert_counted_once(one, near)
    far.close()


async def shake_hands(client: MemoryClient, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while not client.handshake():
        await loop.sock_sendall(sock, client.output())
        client.receive(await loop.sock_recv(sock, 1 << 16))
    await loop.sock_sendall(sock, client.output())


@given(attacks)
@settings(max_examples=150, deadline=None)
def test_any_bytes_before_the_handshake_end_in_one_account(attack: Attack) -> None:
    in_loop(play)(attack, None)


@given(attacks, st.sampled_from(HEADERS))
@settings(max_examples=150, deadline=None)
def test_any_bytes_from_a_trusted_proxy_end_in_one_account(attack: Attack, header: bytes) -> None:
    in_loop(play)(attack._replace(chunks=[header, *attack.chunks]), None, introduced=True)


@given(visits, st.sampled_from([SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]))
@settings(max_examples=80, deadline=None)
def test_any_bytes_behind_the_handshake_end_in_one_account(attack: Attack, version: int) -> None:
    in_loop(play)(attack, MemoryClient(client_context(minimum=version, maximum=version)))


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4), st.sampled_from(ENDS))
@settings(max_examples=60, deadline=None)
def test_any_plain_text_through_the_relay_ends_in_one_account(chunks: list[bytes], end: str) -> None:
    client = MemoryClient()

    async def speak() -> None:
        one = service(PAIR, handshake_timeout=5, idle_timeout=TIMEOUT)
        near, far = tcp_pair()
        assert one.limits.admit("127.0.0.1")
        session = Session(one, near, ("127.0.0.1", 1))
        await shake_hands(client, far)
        for chunk in chunks:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(far, client.write(chunk))
        leave(far, end)
        await over(session)
        assert_counted_once(one, near)
        far.close()

    in_loop(speak)()


def test_sessions_leave_nothing_behind_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            in_loop(play)(Attack([b"GET / HTTP/1.1\r\n\r\n"], "close"), None)
        assert not [one for one in gc.get_objects() if isinstance(one, Session)]
    finally:
        gc.enable()
