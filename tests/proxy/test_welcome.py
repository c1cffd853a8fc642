from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from proxy import welcome
from proxy.backend import Reaching
from proxy.welcome import WelcomeBackend, page
from tests.support.engine import ESTABLISHED, NEGOTIATED
from tests.support.loop import Peer, in_loop


def test_the_page_tells_what_was_negotiated() -> None:
    text = page(ESTABLISHED).decode()
    for fact in (
        "192.0.2.1 port 4711",
        "198.51.100.1 port 443, listener web",
        "www.example.com",
        "TLSv1.3",
        "TLS_AES_128_GCM_SHA256",
        "X25519",
        "h2",
        "new",
        "00" * 32,
        "1 (trusted, exact)",
    ):
        assert f"<td>{fact}</td>" in text


def test_the_page_has_words_for_what_is_missing() -> None:
    bare = NEGOTIATED._replace(group="", alpn="", resumed=True)
    text = page(ESTABLISHED._replace(server_name=None, negotiated=bare, matched="")).decode()
    for fact in ("none sent", "none", "none negotiated", "resumed", "nothing: it was made at first start"):
        assert f"<td>{fact}</td>" in text


def test_what_a_client_can_choose_is_escaped() -> None:
    text = page(ESTABLISHED._replace(server_name="<script>alert(1)</script>")).decode()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


async def converse(request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to these bytes, after which the backend has closed."""
    loop, one = asyncio.get_running_loop(), WelcomeBackend()
    reaching = Reaching(loop)
    peer = Peer((await reaching.connected(one.dial(loop, ESTABLISHED, reaching))).dress())
    await peer.send(request)
    answer, _ = await peer.rest()
    peer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@in_loop
async def test_a_get_is_answered_with_the_page_and_closed() -> None:
    head, body = await converse(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"connection: close" in head.lower()
    assert b"content-security-policy: default-src 'none'" in head.lower()
    assert body == page(ESTABLISHED)


@in_loop
async def test_a_head_is_answered_without_a_body() -> None:
    head, body = await converse(b"HEAD /anything HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b""


@in_loop
async def test_another_method_is_not_allowed() -> None:
    head, body = await converse(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"allow: GET, HEAD" in head
    assert body == b""


@pytest.mark.parametrize(
    "request_",
    [b"\0\1\2\3\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 70_000],
    ids=["bytes", "Host", "long"],
)
@in_loop
async def test_what_is_not_http_is_dropped_without_an_answer(request_: bytes) -> None:
    assert await converse(request_) == (b"", b"")


def test_a_client_that_stalls_is_dropped_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(welcome, "DEADLINE", 0.05)
    stalled = in_loop(assert_dropped)
    stalled()


async def assert_dropped() -> None:
    assert await converse(b"GET / HT") == (b"", b"")


@in_loop
async def test_a_cancelled_dial_ends_its_conversation() -> None:
    loop, one = asyncio.get_running_loop(), WelcomeBackend()
    reaching = Reaching(loop)
    waiting = asyncio.ensure_future(reaching.connected(None))
    one.dial(loop, ESTABLISHED, reaching).cancel()
    while one._conversations:
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


@in_loop
async def test_without_descriptors_left_the_dial_fails_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", none_left)
    loop = asyncio.get_running_loop()
    reaching = Reaching(loop)
    with pytest.raises(ConnectionError, match=r"^Too many open files$"):
        await reaching.connected(WelcomeBackend().dial(loop, ESTABLISHED, reaching))
