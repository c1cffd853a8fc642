from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from proxy.leg import reset
from proxy.poller import Poller
from proxy.starttls.conversation import TurnedAway
from proxy.starttls.opening import Plan
from proxy.starttls.protocols import PROTOCOLS
from proxy.talk import MAX_HELD, AnyConversation, Talk
from proxy.tls_engine import TlsEngine
from tests.support.engine import MemoryClient, engine_for, join
from tests.support.loop import Peer, TlsPeer, in_loop, tcp_pair
from tests.support.pki import self_signed

PAIR = self_signed("mx.internal")
NOTHING = (
    "dropped: it closed the connection in place of its greeting; does it expect a PROXY header (client_address)? "
    "Its log may say"
)
EHLO = b"250 SIZE 1000\r\n"


class Party:
    """A conversation that is held, its server played by the test as `server`, and what came of it."""

    def __init__(self, conversation: AnyConversation, *, first: bytes = b"", engine: TlsEngine | None = None) -> None:
        loop = asyncio.get_running_loop()
        far, self.near = tcp_pair()
        self.server = Peer(far)
        self.outcome: asyncio.Future[Any] = loop.create_future()
        self.talk = Talk(Poller(loop), self.near, engine, conversation, None, self, introduced=False)
        self.talk.begin(first)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.near.close()
        self.server.close()

    def talked(self, engine: TlsEngine | None, unsent: bytes) -> None:
        self.outcome.set_result((engine, unsent))

    def turned_away(self, error: TurnedAway) -> None:
        self.outcome.set_result(error.words)

    def dropped(self, reason: str) -> None:
        self.outcome.set_result(f"dropped: {reason}")

    def failed(self, reason: str) -> None:
        self.outcome.set_result(reason)


def probe() -> AnyConversation:
    return PROTOCOLS["smtp"].probe("mx.example.com")


@in_loop
async def test_a_conversation_is_held_byte_by_byte_and_the_socket_left_alone() -> None:
    conversation = probe()
    with Party(conversation, first=b"PROXY header") as one:
        assert await one.server.receive(12) == b"PROXY header"
        for byte in b"220 mx.internal ready\r\n":
            await one.server.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await one.server.receive(21) == b"EHLO mx.example.com\r\n"
        await one.server.send(EHLO)
        assert await one.outcome == (None, b"")
        assert conversation.outcome.greeting == b"ready"
        await one.server.send(b"more")
        assert await Peer(one.near).receive(4) == b"more", "what comes next is not the conversation's to read"


@in_loop
async def test_a_conversation_goes_on_inside_tls_whose_last_bytes_may_have_brought_the_greeting() -> None:
    client, served = MemoryClient(), engine_for(pair=PAIR)
    join(served, client)
    with Party(probe(), engine=served) as one:
        server = TlsPeer(one.server.socket, client)
        await server.send(b"220 mx.internal ready\r\n")
        assert await server.receive(21) == b"EHLO mx.example.com\r\n"
        await server.send(EHLO)
        assert await one.outcome == (served, b"")


@pytest.mark.parametrize(
    ("words", "end", "reason"),
    [
        (b"", "close", NOTHING),
        (b"220 x\r\n", "close", "dropped: it closed the connection in place of its answer to EHLO"),
        (b"220 x\r\n", "reset", "dropped: Connection reset by peer, in place of its answer to EHLO"),
        (b"* OK imap\r\n", "stay", 'its greeting is not SMTP: "* OK imap"'),
        (b"220 x\r\n250 too early\r\n", "stay", 'it said more than its greeting: "250 too early"'),
        (b"220 x" + b"x" * 9000, "stay", "a line of its greeting is longer than 8192 bytes"),
    ],
)
@in_loop
async def test_why_a_conversation_failed_is_said_in_words(words: bytes, end: str, reason: str) -> None:
    with Party(probe()) as one:
        await one.server.send(words)
        if b"\r\n" in words and end != "stay":
            await one.server.receive(21)
        if end == "close":
            one.server.close()
        elif end == "reset":
            reset(one.server.socket)
        assert await one.outcome == reason


@in_loop
async def test_a_server_that_ends_or_breaks_tls_is_told_from_one_that_goes_away() -> None:
    for last, reason in (
        (b"", "it ended TLS in place of its greeting"),
        (b"\x17\x03\x03\x00\x10" + bytes(16), "it broke TLS"),
    ):
        client, served = MemoryClient(), engine_for(pair=PAIR)
        join(served, client)
        with Party(probe(), engine=served) as one:
            await one.server.send(last or client.close())
            assert (await one.outcome).startswith(reason)


class Chatterbox:
    """A layer that answers whatever comes with a lot, and never says anything of its peer's."""

    more = ended = False

    def decode(self, _data: bytes) -> bytes:
        return b""

    def output(self) -> bytes:
        return bytes(32 << 10)


@in_loop
async def test_a_server_that_makes_tls_answer_and_does_not_read_is_given_up() -> None:
    engine: Any = Chatterbox()
    with Party(probe(), engine=engine) as one:
        while not one.outcome.done():
            await one.server.send(b"x")
            await asyncio.sleep(0.001)
            assert one.talk.held <= MAX_HELD + (32 << 10)
        assert await one.outcome == "it reads nothing, in place of saying its greeting"


@in_loop
async def test_a_client_that_is_turned_away_gets_the_servers_words() -> None:
    with Party(PROTOCOLS["smtp"].opening(Plan("mx.example.com"))) as one:
        await one.server.send(b"554 5.7.1 Go away\r\n")
        assert await one.outcome == b"554 5.7.1 Go away\r\n"
