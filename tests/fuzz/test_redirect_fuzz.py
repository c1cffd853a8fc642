"""Whatever a stranger sends to the plain HTTP listener, it is answered or not, counted once, and raises nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Outcome
from proxy.proxy_header import ProxyHeaderReader
from proxy.proxy_protocol import encode_v1, encode_v2
from proxy.redirect import Redirect, RedirectService
from tests.support.loop import Peer, in_loop, tcp_pair
from tests.support.service import redirect_service, value

TIMEOUT = 0.05  # seconds for a head
REQUESTS = (
    b"GET /a?b HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
    b"HEAD http://b.example/ HTTP/1.1\r\nHost: www.example.com:80\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: [::1]\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: a\r\n\r\n",
)
INTRODUCTIONS = (None, encode_v1(("192.0.2.1", 1), ("192.0.2.2", 2)), encode_v2(None, None, local=True), b"PROXY ")
ENDS = ("FIN", "RST", "silence")


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    """A request with some bytes changed, cut short or followed by others, in several pieces."""
    data = bytearray(draw(st.sampled_from(REQUESTS)))
    for at in draw(st.lists(st.integers(0, len(data) - 1), max_size=4)):
        data[at] = draw(st.integers(0, 255))
    kept = bytes(data[: draw(st.integers(1, len(data)))] if draw(st.booleans()) else data) + draw(
        st.binary(max_size=40)
    )
    cuts = sorted(draw(st.sets(st.integers(0, len(kept)), max_size=4)) | {0, len(kept)})
    return [kept[one:other] for one, other in pairwise(cuts)]


chunks = st.one_of(st.lists(st.binary(min_size=1, max_size=200), max_size=4), requests())


async def play(sent: list[bytes], introduction: bytes | None, end: str) -> None:
    one = redirect_service(handshake_timeout=TIMEOUT, acme=Path("/nowhere"))
    near, far = tcp_pair()
    if introduction is None:
        assert one.limits.admit("127.0.0.1")
    else:
        one.limits.admit_unnamed()
        sent = [introduction, *sent]
    Redirect(one, near, ("127.0.0.1", 1), None if introduction is None else ProxyHeaderReader())
    peer = Peer(far)
    for chunk in sent:
        with contextlib.suppress(OSError):
            await peer.send(chunk)
        await asyncio.sleep(0)
    if end == "RST":
        peer.reset()
    else:
        if end == "FIN":
            with contextlib.suppress(OSError):
                peer.finish()
        assert_well_formed((await peer.rest())[0])
        peer.close()
    async with asyncio.timeout(5):
        while one.sessions:
            await asyncio.sleep(0.001)
    assert_counted_once(one, near)


def assert_well_formed(answer: bytes) -> None:
    """Nothing, or one answer with the headers we mean, and a Location of the one shape."""
    if not answer:
        return
    head, blank, _ = answer.partition(b"\r\n\r\n")
    assert blank
    status, *lines = head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 (200|301|308|400|404|431|501) [A-Za-z ]+", status)
    names = [line.partition(b": ")[0].lower() for line in lines]
    assert set(names) <= {b"location", b"content-type", b"content-length", b"x-content-type-options", b"connection"}
    assert len(names) == len(set(names))
    for line in lines:
        if line.startswith(b"location: "):
            assert re.fullmatch(rb"location: https://([a-z0-9_.-]+|\[[0-9a-f:.]+\])/[!-~]*", line)


def assert_counted_once(one: RedirectService, near: socket.socket) -> None:
    outcomes = [outcome for outcome in Outcome for _ in range(int(value(one.metrics.outcomes[outcome])))]
    failures = [reason for reason, counter in one.metrics.failures.items() for _ in range(int(value(counter)))]
    assert len(outcomes) == 1
    assert len(failures) == (outcomes == [Outcome.HANDSHAKE_FAILED])
    assert value(one.metrics.active) == 0
    assert one.limits.open == 0
    assert near.fileno() == -1


@given(chunks, st.sampled_from(INTRODUCTIONS), st.sampled_from(ENDS))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_one_account_and_at_most_one_answer(
    sent: list[bytes], introduction: bytes | None, end: str
) -> None:
    in_loop(play)(sent, introduction, end)


def test_a_conversation_that_is_cut_before_it_began_is_counted_too() -> None:
    async def cut() -> None:
        one = redirect_service(handshake_timeout=TIMEOUT)
        near, far = tcp_pair()
        assert one.limits.admit("127.0.0.1")
        Redirect(one, near, ("127.0.0.1", 1)).cut()
        assert await Peer(far).rest() == (b"", "RST")
        far.close()
        assert value(one.metrics.outcomes[Outcome.DRAINED]) == 1
        assert_counted_once(one, near)

    in_loop(cut)()
