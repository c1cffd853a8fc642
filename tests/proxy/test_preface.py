from __future__ import annotations

from typing import Any

import pytest

from proxy.account import Account
from proxy.backend import Endpoint
from proxy.mail import MailService
from proxy.preface import Preface
from proxy.proxy_header import ProxyHeaderReader
from proxy.proxy_protocol import encode_v2
from proxy.service import Service
from proxy.starttls.dialogue import Turn
from proxy.starttls.protocols import PROTOCOLS
from tests.support.loop import in_loop
from tests.support.pki import self_signed
from tests.support.service import service

PAIR = self_signed("mx.example.com")
CLIENT, LOCAL = ("192.0.2.1", 1), ("192.0.2.2", 25)
HEADER = encode_v2(CLIENT, LOCAL)
GREETING = b"220 mx.example.com ESMTP\r\n"
HELLO = b"\x16\x03\x01 the client's hello"


class Party:
    """A session, as far as a preface knows it: what was asked of it, in order."""

    def __init__(self, *, introduced: bool = False, room: bool = True, require_tls: bool = True) -> None:
        mail = MailService(PROTOCOLS["smtp"], "mx.example.com", starttls=True, require_tls=require_tls)
        self.service: Service = service(PAIR, handshake_timeout=5, idle_timeout=5, mail=mail)
        self.account = Account("mx", ("127.0.0.1", 1))
        self.asked: list[Any] = []
        self.room = room
        self.service.handshakes.set(self, 0.0)
        self.preface = Preface(self.service, self, ProxyHeaderReader() if introduced else None)
        self.preface.begin()

    def introduced(self, client: Endpoint | None, destination: Endpoint | None) -> bool:
        self.asked.append((client, destination))
        return self.room

    def say(self, words: bytes) -> None:
        if words:
            self.asked.append(words)

    def begin_hello(self, data: bytes, began: float | None = None) -> None:
        self.asked += ["hello", data]

    def go_on_in_plain_text(self, turn: Turn) -> None:
        self.asked += ["plain", turn.hello, turn.rest]

    def leave(self, reason: str = "") -> None:
        self.asked.append(reason or "left")

    def fail(self, reason: str) -> None:
        self.asked.append(reason)

    def overdue(self) -> None:
        self.preface.overdue()

    def after(self, *chunks: bytes) -> list[Any]:
        """What is asked after these bytes, beyond what was before."""
        before = len(self.asked)
        for chunk in chunks:
            self.preface.receive(chunk)
        return self.asked[before:]

    @property
    def deadlines(self) -> tuple[int, int]:
        """How many it has: in its preface, in its handshake."""
        return len(self.service.prefaces), len(self.service.handshakes)


@in_loop
async def test_a_client_is_greeted_answered_and_begins_tls_under_the_handshakes_deadline() -> None:
    one = Party()
    assert one.asked == [GREETING]
    assert one.deadlines == (1, 0)
    (answer,) = one.after(b"EHLO client\r\n")
    assert answer.endswith(b"250 STARTTLS\r\n")
    assert one.after(b"STARTTLS\r\n") == [b"220 2.0.0 Ready to start TLS\r\n"]
    assert one.deadlines == (1, 0)
    assert one.after(HELLO) == ["hello", HELLO]
    assert one.deadlines == (0, 1)


@in_loop
async def test_behind_a_proxy_the_client_is_greeted_once_it_is_introduced() -> None:
    one = Party(introduced=True)
    assert one.asked == []
    assert one.deadlines == (0, 1)
    assert one.after(HEADER[:10], HEADER[10:]) == [(CLIENT, LOCAL), GREETING]
    assert one.deadlines == (1, 0)
    early = Party(introduced=True).after(HEADER + b"QUIT\r\n")
    assert early == [(CLIENT, LOCAL), GREETING, b"221 2.0.0 Bye\r\n", "left"]


@in_loop
async def test_nothing_is_said_where_there_is_no_room_or_no_header() -> None:
    assert Party(introduced=True, room=False).after(HEADER) == [(CLIENT, LOCAL)]
    assert Party(introduced=True).after(b"EHLO client\r\n") == ["proxy_header_missing"]


@in_loop
async def test_tls_at_once_is_told_from_a_command_that_has_its_first_byte_in_it() -> None:
    assert Party().after(HELLO) == ["tls_at_once"]
    assert Party().after(b"NO", HELLO) == []


@pytest.mark.parametrize(
    ("said", "end"),
    [(b"QUIT\r\n", "left"), (b"STARTTLS\r\nEHLO x\r\n", "starttls_injection"), (b"NOOP\n", "dialogue_spoilt")],
)
@in_loop
async def test_a_dialogues_last_words_are_said_and_then_it_ends(said: bytes, end: str) -> None:
    *words, ended = Party().after(said)
    assert ended == end
    assert words
    assert words[-1].endswith(b"\r\n")


@in_loop
async def test_a_client_without_tls_goes_on_where_it_may_with_no_deadline() -> None:
    one = Party(require_tls=False)
    (_, *asked) = one.after(b"EHLO client\r\n", b"MAIL FROM:<a@b.example>\r\nRCPT")
    assert asked == ["plain", b"EHLO client\r\n", b"MAIL FROM:<a@b.example>\r\nRCPT"]
    assert one.deadlines == (0, 0)


@in_loop
async def test_the_deadline_is_told_to_a_client_that_can_hear_it_and_counted_by_where_it_came() -> None:
    introduction = Party(introduced=True)
    introduction.preface.overdue()
    assert introduction.asked == ["timeout"]

    dialogue = Party()
    dialogue.preface.overdue()
    assert dialogue.asked == [GREETING, b"421 4.4.2 mx.example.com Timed out, closing\r\n", "preamble_timeout"]

    go_ahead = Party()
    go_ahead.after(b"STARTTLS\r\n")
    go_ahead.preface.overdue()
    assert go_ahead.asked[2:] == ["preamble_timeout"]


@in_loop
async def test_a_worker_that_stops_tells_its_clients() -> None:
    one = Party()
    one.preface.cut()
    assert one.asked[1:] == [b"421 4.3.2 mx.example.com Shutting down, try again later\r\n", "draining"]


@in_loop
async def test_only_in_the_dialogue_a_client_may_go_away() -> None:
    for said, end in ((b"", "left"), (b"STARTTLS\r\n", "disconnected")):
        one = Party()
        if said:
            one.after(said)
        one.preface.ended()
        assert one.asked[-1] == end
    introduction = Party(introduced=True)
    introduction.preface.ended()
    assert introduction.asked == ["disconnected"]
