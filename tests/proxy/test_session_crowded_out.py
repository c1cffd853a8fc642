"""A session whose unfinished handshake, or mail dialogue, has to make room, in each state that it may be in then."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.errors import Outcome
from proxy.handshakes import Handshakes
from proxy.mail import MailService
from proxy.proxy_header import ProxyHeaderReader
from proxy.session import Session, State
from proxy.starttls.protocols import PROTOCOLS
from tests.support import client_hellos as hellos
from tests.support.engine import MemoryClient
from tests.support.loop import in_loop, tcp_pair
from tests.support.pki import self_signed
from tests.support.service import NAME, service, value

PAIR = self_signed(NAME)
HELLO = hellos.from_stdlib()
STAGES = {
    "introduction": (b"PROXY TCP4", State.PREFACE),
    "silent": (b"", State.HANDSHAKING),
    "half a ClientHello": (HELLO[:50], State.HANDSHAKING),
    "a whole one": (HELLO, State.HANDSHAKING),
}


@pytest.mark.parametrize("stage", STAGES)
@in_loop
async def test_who_has_to_make_room_is_reset_and_counted_once(stage: str) -> None:
    said, state = STAGES[stage]
    one = service(PAIR, handshake_timeout=60, idle_timeout=60, unfinished=Handshakes(1))
    near, far = tcp_pair()
    await asyncio.get_running_loop().sock_sendall(far, said)
    introduced = state is State.PREFACE
    if introduced:
        one.limits.admit_unnamed()
    else:
        assert one.limits.admit("192.0.2.1")
    first = Session(one, near, ("192.0.2.1", 1), ProxyHeaderReader() if introduced else None)
    while first.state is not state:
        await asyncio.sleep(0.001)
    if said == HELLO:
        assert await asyncio.get_running_loop().sock_recv(far, 1 << 16), "what snigate has to say"
    after, other = tcp_pair()
    assert one.limits.admit("192.0.2.2")
    second = Session(one, after, ("192.0.2.2", 1))
    assert (first.state, second.state) == (State.OVER, State.HANDSHAKING)
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(far, 1)
    assert value(one.metrics.failures["crowded_out"]) == 1
    assert value(one.metrics.outcomes[Outcome.HANDSHAKE_FAILED]) == 1
    assert one.sessions == {second}
    assert one.limits.open == 1
    second.cut()
    far.close()
    other.close()


@in_loop
async def test_who_has_finished_makes_no_room_and_needs_none() -> None:
    one = service(PAIR, handshake_timeout=60, idle_timeout=60, unfinished=Handshakes(1))
    sessions, ends = [], []
    for number in range(3):
        near, far = tcp_pair()
        assert one.limits.admit("192.0.2.1")
        sessions.append(Session(one, near, ("192.0.2.1", number)))
        ends.append(far)
        if number < 2:
            await shake_hands(far)
            while sessions[-1].state is not State.RELAYING:
                await asyncio.sleep(0.001)
    assert [session.state for session in sessions] == [State.RELAYING, State.RELAYING, State.HANDSHAKING]
    assert value(one.metrics.failures["crowded_out"]) == 0
    for session, far in zip(sessions, ends, strict=True):
        session.cut()
        far.close()


@in_loop
async def test_who_makes_room_between_two_steps_takes_no_further_one() -> None:
    one = service(PAIR, handshake_timeout=60, idle_timeout=60, unfinished=Handshakes(1))
    lines = [tcp_pair(), tcp_pair()]
    for _, far in lines:
        await asyncio.get_running_loop().sock_sendall(far, HELLO)
    sessions: list[Session] = []

    def accept() -> None:
        bell.recv(1)
        for number, (near, _) in enumerate(lines):
            assert one.limits.admit("192.0.2.1")
            sessions.append(Session(one, near, ("192.0.2.1", number)))
        assert [session.state for session in sessions] == [State.OVER, State.HANDSHAKING]

    bell, cord = tcp_pair()
    one.loop.add_reader(bell.fileno(), accept)
    cord.send(b"!")
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(lines[0][1], 1)
    assert await asyncio.get_running_loop().sock_recv(lines[1][1], 1 << 16), "the second is served"
    assert one.sessions == {sessions[1]}
    assert value(one.metrics.failures["crowded_out"]) == 1
    sessions[1].cut()
    one.loop.remove_reader(bell.fileno())
    for sock in (bell, cord, lines[0][1], lines[1][1]):
        sock.close()


@pytest.mark.parametrize("said", [b"", b"EHLO client.example\r\n", b"STARTTLS\r\n"])
@in_loop
async def test_a_mail_client_that_does_not_come_to_tls_makes_room_for_the_next(said: bytes) -> None:
    loop = asyncio.get_running_loop()
    mail = MailService(PROTOCOLS["smtp"], "mx.example.com", starttls=True, require_tls=True)
    one = service(PAIR, handshake_timeout=60, idle_timeout=60, preamble_timeout=60, mail=mail, dialogues=Handshakes(1))
    near, far = tcp_pair()
    assert one.limits.admit("192.0.2.1")
    first = Session(one, near, ("192.0.2.1", 1))
    assert (await loop.sock_recv(far, 1 << 16)).startswith(b"220 ")
    if said:
        await loop.sock_sendall(far, said)
        assert await loop.sock_recv(far, 1 << 16), "the answer"
    after, other = tcp_pair()
    assert one.limits.admit("192.0.2.2")
    second = Session(one, after, ("192.0.2.2", 1))
    assert (first.state, second.state) == (State.OVER, State.PREFACE)
    with pytest.raises(ConnectionResetError):
        await loop.sock_recv(far, 1)
    assert value(one.metrics.failures["crowded_out"]) == 1
    assert one.sessions == {second}
    assert (one.limits.open, len(one.prefaces), len(one.handshakes)) == (1, 1, 0)
    second.cut()
    far.close()
    other.close()


async def shake_hands(sock: socket.socket) -> None:
    loop, client = asyncio.get_running_loop(), MemoryClient()
    while not client.handshake():
        await loop.sock_sendall(sock, client.output())
        client.receive(await loop.sock_recv(sock, 1 << 16))
    await loop.sock_sendall(sock, client.output())
