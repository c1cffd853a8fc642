"""The relay over loopback connections, with a TLS client and a backend that the test drives by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from proxy.direct_engine import DirectEngine
from proxy.errors import Outcome
from proxy.leg import READ_SIZE, shared_buffer
from proxy.poller import Poller
from proxy.relay import Patience, Relay
from proxy.tls_engine import RECORDS_AT_ONCE, TlsEngine
from tests.support.engine import MemoryClient, direct_engine_for, join
from tests.support.loop import Peer, TlsPeer, in_loop, tcp_pair
from tests.support.pki import self_signed

PAIR = self_signed("www.example.com")
DIRECT = False
LARGE = bytes(range(256)) * (16 << 10)  # 4 MiB: more than the sockets on the way hold


@pytest.fixture(autouse=True, params=[False, True], ids=["detached", "direct"])
def _how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test once with bytes that go through memory, and once with an engine that begins on the socket."""
    monkeypatch.setattr(sys.modules[__name__], "DIRECT", request.param)


def joined(near: socket.socket) -> tuple[MemoryClient, DirectEngine]:
    """A client, and the engine on the near end of its connection, the handshake done."""
    client, engine = MemoryClient(), direct_engine_for(near, PAIR)
    join(engine, client)
    if DIRECT:
        engine.slim()
    assert engine.direct is DIRECT
    return client, engine


@dataclass
class Relayed:
    """A relay with its two far ends."""

    relay: Relay
    client: TlsPeer
    backend: Peer
    ended: asyncio.Future[Outcome]
    near: tuple[socket.socket, socket.socket]


def arrive(far: socket.socket, engine: TlsEngine, data: bytes) -> None:
    """Let the client have said this behind its handshake, before the relay begins."""
    if DIRECT:
        assert far.send(data) == len(data)
    else:
        engine.receive(data)


@contextlib.asynccontextmanager
async def relayed(
    expected: Outcome, *, idle: float = 60.0, preamble: bytes = b"", early: bytes = b""
) -> AsyncIterator[Relayed]:
    """A relay that runs, and that has ended as `expected` once, its sockets closed, when the block is done.

    `early` is what the client sent right behind its handshake, before the relay began.
    """
    loop = Poller(asyncio.get_running_loop())
    client_far, client_near = tcp_pair()
    client, engine = joined(client_near)
    if early:
        arrive(client_far, engine, client.write(early))
    backend_far, backend_near = tcp_pair()
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    near = (client_near, engine), (backend_near, None)
    relay = Relay(loop, *near, shared_buffer(), Patience(loop, idle), ended.set_result)
    relay.start(preamble, engine.output())
    try:
        yield Relayed(relay, TlsPeer(client_far, client), Peer(backend_far), ended, (client_near, backend_near))
        assert await asyncio.wait_for(ended, 10) is expected
        assert client_near.fileno() == backend_near.fileno() == -1
        relay.cut(Outcome.DRAINED)  # what has ended does not end again
    finally:
        if not ended.done():
            relay.cut(Outcome.DRAINED)
        client_far.close()
        backend_far.close()


@in_loop
async def test_bytes_go_both_ways_and_are_counted() -> None:
    async with relayed(Outcome.SERVED) as one:
        await one.client.send(b"question")
        assert await one.backend.receive(8) == b"question"
        await one.backend.send(b"answer")
        assert await one.client.receive(6) == b"answer"
        await one.client.send_close_notify()
        assert await one.backend.rest() == (b"", "FIN")
        one.backend.finish()
        assert await one.client.rest() == (b"", "close_notify")
    assert one.relay.bytes_to_backend == 8
    assert one.relay.bytes_to_client == 6


@in_loop
async def test_a_preamble_comes_first_and_then_what_the_client_said_behind_its_handshake() -> None:
    async with relayed(Outcome.TRUNCATED_BY_CLIENT, preamble=b"PROXY UNKNOWN\r\n", early=b"GET /") as one:
        assert await one.backend.receive(20) == b"PROXY UNKNOWN\r\nGET /"
        one.client.finish()


@in_loop
async def test_a_close_notify_right_behind_the_handshake_is_an_end_of_the_stream() -> None:
    loop = Poller(asyncio.get_running_loop())
    client_far, client_near = tcp_pair()
    client, engine = joined(client_near)
    arrive(client_far, engine, client.write(b"whole") + client.close())
    backend_far, backend_near = tcp_pair()
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    near = (client_near, engine), (backend_near, None)
    Relay(loop, *near, shared_buffer(), Patience(loop, 60), ended.set_result).start()
    backend = Peer(backend_far)
    assert await backend.rest() == (b"whole", "FIN")
    backend.close()
    assert await ended is Outcome.SERVED
    client_far.close()


@in_loop
async def test_much_goes_both_ways_at_once_unharmed() -> None:
    async with relayed(Outcome.SERVED) as one:
        backwards = LARGE[::-1]
        _, up, _, down = await asyncio.gather(
            one.client.send(LARGE),
            one.backend.receive(len(LARGE)),
            one.backend.send(backwards),
            one.client.receive(len(LARGE)),
        )
        assert up == LARGE
        assert down == backwards
        await one.client.send_close_notify()
        one.backend.close()


@in_loop
async def test_a_clients_close_notify_is_fin_to_the_backend_whose_long_answer_still_arrives() -> None:
    async with relayed(Outcome.SERVED) as one:
        await one.client.send(b"question")
        await one.client.send_close_notify()
        assert await one.backend.rest() == (b"question", "FIN")
        (answer, end), _ = await asyncio.gather(one.client.rest(), answer_and_finish(one.backend))
        assert answer == LARGE
        assert end == "close_notify"


async def answer_and_finish(backend: Peer) -> None:
    await backend.send(LARGE)
    backend.finish()


@in_loop
async def test_a_client_that_ends_tls_and_tcp_still_gets_the_answer() -> None:
    async with relayed(Outcome.SERVED) as one:
        await one.client.send_close_notify()
        one.client.finish()
        assert await one.backend.rest() == (b"", "FIN")
        await one.backend.send(b"answer")
        one.backend.finish()
        assert await one.client.rest() == (b"answer", "close_notify")


@in_loop
async def test_a_backends_fin_is_close_notify_and_fin_to_the_client_who_may_go_on_sending() -> None:
    async with relayed(Outcome.SERVED) as one:
        await one.backend.send(b"greeting")
        one.backend.finish()
        assert await one.client.rest() == (b"greeting", "close_notify")
        _, received = await asyncio.gather(one.client.send(LARGE), one.backend.receive(len(LARGE)))
        assert received == LARGE
        await one.client.send_close_notify()
        assert await one.backend.rest() == (b"", "FIN")


@in_loop
async def test_a_client_that_was_told_the_end_may_answer_with_a_bare_fin() -> None:
    async with relayed(Outcome.SERVED) as one:
        one.backend.finish()
        assert await one.client.rest() == (b"", "close_notify")
        one.client.close()
        assert await one.backend.rest() == (b"", "FIN")


@in_loop
async def test_a_clients_bare_fin_resets_a_backend_that_waits_for_more() -> None:
    async with relayed(Outcome.TRUNCATED_BY_CLIENT) as one:
        await one.client.send(b"half a mess")
        assert await one.backend.receive(11) == b"half a mess"
        one.client.finish()
        assert await one.backend.rest() == (b"", "RST")


@in_loop
async def test_a_clients_reset_resets_the_backend() -> None:
    async with relayed(Outcome.RESET_BY_CLIENT) as one:
        await one.client.send(b"hello")
        assert await one.backend.receive(5) == b"hello"
        one.client.reset()
        assert await one.backend.rest() == (b"", "RST")


@in_loop
async def test_a_clients_reset_is_one_though_the_backends_end_is_heard_first() -> None:
    async with relayed(Outcome.RESET_BY_CLIENT) as one:
        await one.backend.send(b"half an ans")
        assert await one.client.receive(11) == b"half an ans"
        one.client.reset()
        one.relay._backend.end()
        assert await one.backend.rest() == (b"", "RST")


@in_loop
async def test_a_clients_reset_while_it_does_not_read_resets_the_backend() -> None:
    async with relayed(Outcome.RESET_BY_CLIENT) as one:
        sending = asyncio.ensure_future(one.backend.send(LARGE))
        await blocked(one)
        one.client.reset()
        with pytest.raises(ConnectionError):  # the sender is told of the reset
            await sending


@in_loop
async def test_a_backends_reset_resets_the_client() -> None:
    async with relayed(Outcome.RESET_BY_BACKEND) as one:
        await one.backend.send(b"part")
        assert await one.client.receive(4) == b"part"
        one.backend.reset()
        assert await one.client.rest() == (b"", "RST")


@in_loop
async def test_a_backends_reset_after_the_clients_close_notify_is_still_a_reset() -> None:
    async with relayed(Outcome.RESET_BY_BACKEND) as one:
        await one.client.send_close_notify()
        assert await one.backend.rest() == (b"", "FIN")
        one.backend.reset()
        assert await one.client.rest() == (b"", "RST")


@in_loop
async def test_an_early_answer_of_a_backend_that_then_closes_reaches_a_client_that_is_still_sending() -> None:
    async with relayed(Outcome.RESET_BY_BACKEND) as one:
        sending = asyncio.ensure_future(one.client.send(LARGE))
        await one.backend.receive(1000)
        await one.backend.send(b"413 Content Too Large")
        one.backend.close()  # with bytes unread: a reset
        answer, end = await one.client.rest()
        assert answer == b"413 Content Too Large"
        with pytest.raises(ConnectionError):
            await sending
        assert end != "close_notify"  # the client's send or its receive sees the reset, whichever comes first


@in_loop
async def test_a_broken_record_is_an_alert_to_the_client_and_a_reset_to_the_backend() -> None:
    async with relayed(Outcome.PROTOCOL_ERROR) as one:
        forged = bytearray(one.client.client.write(b"hello"))
        forged[-1] ^= 1
        await asyncio.get_running_loop().sock_sendall(one.client.socket, forged)
        assert await one.backend.rest() == (b"", "RST")
        raw, end = await Peer.rest(one.client)
        assert raw[0] in (21, 23)  # an alert, encrypted
        assert end == "FIN"


@in_loop
async def test_an_alert_reaches_a_client_that_has_said_more_than_the_broken_record() -> None:
    async with relayed(Outcome.PROTOCOL_ERROR) as one:
        forged = bytearray(one.client.client.write(b"hello"))
        forged[-1] ^= 1
        forged += one.client.client.write(bytes(12_000))
        await asyncio.get_running_loop().sock_sendall(one.client.socket, forged)
        assert await one.backend.rest() == (b"", "RST")
        raw, end = await Peer.rest(one.client)
        assert raw[0] in (21, 23)
        assert end == "FIN"


@in_loop
async def test_small_pieces_for_a_client_that_does_not_read_are_held_and_arrive_whole() -> None:
    async with relayed(Outcome.SERVED) as one:
        pieces = b""
        while not one.relay._client.blocked:
            piece = bytes([len(pieces) % 251]) * 3000
            pieces += piece
            await one.backend.send(piece)
            await asyncio.sleep(0)
        await one.backend.send(b"and the last")
        assert await one.client.receive(len(pieces) + 12) == pieces + b"and the last"
        one.relay.slim()
        await one.backend.send(b"as at first")
        assert await one.client.receive(11) == b"as at first"
        await one.client.send_close_notify()
        one.backend.close()


@in_loop
async def test_bytes_behind_a_close_notify_are_not_passed_on() -> None:
    async with relayed(Outcome.SERVED) as one:
        await one.client.send_close_notify()
        await asyncio.get_running_loop().sock_sendall(one.client.socket, b"what is this?")
        assert await one.backend.rest() == (b"", "FIN")
        await one.backend.send(b"answer")
        assert await one.client.receive(6) == b"answer"
        one.backend.close()
        assert await one.client.rest() == (b"", "close_notify")


async def blocked(one: Relayed) -> None:
    """Wait until the relay holds something for the client."""
    while not one.relay._client.blocked:
        await asyncio.sleep(0.001)


@in_loop
async def test_a_client_that_does_not_read_stops_the_backend_and_one_read_is_all_that_is_held() -> None:
    async with relayed(Outcome.SERVED) as one:
        sending = asyncio.ensure_future(one.backend.send(LARGE))
        await blocked(one)
        held = one.relay._client._held
        assert held is not None
        assert len(held) <= READ_SIZE + READ_SIZE // 100
        await one.client.send(b"the other direction goes on")
        assert await one.backend.receive(27) == b"the other direction goes on"
        assert not sending.done()
        assert await one.client.receive(len(LARGE)) == LARGE
        await sending
        await one.client.send_close_notify()
        one.backend.close()


@in_loop
async def test_a_backend_that_does_not_read_stops_the_client_and_loses_nothing() -> None:
    async with relayed(Outcome.SERVED) as one:
        sending = asyncio.ensure_future(one.client.send(LARGE))
        while not one.relay._backend.blocked:
            await asyncio.sleep(0.001)
        held = one.relay._backend._held
        assert held is not None
        assert len(held) <= READ_SIZE
        await one.backend.send(b"the other direction goes on")
        assert await one.client.receive(27) == b"the other direction goes on"
        assert await one.backend.receive(len(LARGE)) == LARGE
        await sending
        await one.client.send_close_notify()
        assert await one.backend.rest() == (b"", "FIN")
        one.backend.close()


@in_loop
async def test_an_idle_connection_ends_without_passing_for_whole_on_either_side() -> None:
    async with relayed(Outcome.IDLE, idle=0.2) as one:
        await one.client.send(b"half a mess")
        assert await one.backend.rest() == (b"half a mess", "RST")
        assert await one.client.rest() == (b"", "FIN")


@in_loop
async def test_an_idle_client_that_was_told_the_end_is_let_go_as_served() -> None:
    async with relayed(Outcome.SERVED, idle=0.2) as one:
        await one.backend.send(b"bye")
        one.backend.finish()
        assert await one.client.rest() == (b"bye", "close_notify")
        assert await one.backend.rest() == (b"", "RST")


@in_loop
async def test_a_cut_resets_both_sides() -> None:
    async with relayed(Outcome.DRAINED) as one:
        one.relay.cut(Outcome.DRAINED)
        assert await one.backend.rest() == (b"", "RST")
        assert await one.client.rest() == (b"", "RST")


@in_loop
async def test_a_backend_that_is_gone_before_the_preamble_resets_the_client() -> None:
    loop = Poller(asyncio.get_running_loop())
    client_far, client_near = tcp_pair()
    client, engine = joined(client_near)
    backend_far, backend_near = tcp_pair()
    Peer(backend_far).reset()
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    near = (client_near, engine), (backend_near, None)
    Relay(loop, *near, shared_buffer(), Patience(loop, 60), ended.set_result).start(b"PROXY")
    assert await ended is Outcome.RESET_BY_BACKEND
    assert (await TlsPeer(client_far, client).rest())[1] == "RST"
    client_far.close()


@in_loop
async def test_a_flood_of_small_records_arrives_whole_and_others_have_their_turn_meanwhile() -> None:
    loop = Poller(asyncio.get_running_loop())
    async with relayed(Outcome.SERVED) as one:
        flood = b"".join([one.client.client.write(b"x") for _ in range(5000)]) + one.client.client.close()
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(one.client.socket, flood))
        turn()
        assert await one.backend.rest() == (b"x" * 5000, "FIN")
        await sending
        assert turns > 5000 // RECORDS_AT_ONCE
        one.backend.close()


@in_loop
async def test_what_is_not_part_of_the_stream_keeps_no_connection_alive() -> None:
    async with relayed(Outcome.IDLE, idle=0.3) as one:
        await one.client.send_close_notify()
        assert await one.backend.rest() == (b"", "FIN")
        while not one.ended.done():
            with contextlib.suppress(OSError):
                one.client.socket.send(b"?")
            await asyncio.sleep(0.02)
