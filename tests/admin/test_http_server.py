from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.responses import PlainTextResponse

from admin import http_server
from admin.http_server import MAX_HEAD, Server


async def _exchange(sent: bytes, connections: int = 1) -> bytes:
    """What a server answers until it closes, on the last of some connections."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server = Server(PlainTextResponse("inside"))
    await server.listen(listening)
    writers = []
    try:
        for _ in range(connections):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writers.append(writer)
        writer.write(sent)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        for writer in writers:
            writer.transport.abort()
        for one in server.servers:
            one.close()
        await asyncio.sleep(0)


def test_an_answer_has_a_date_and_does_not_name_its_server() -> None:
    answer = asyncio.run(_exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    head, _, body = answer.lower().partition(b"\r\n\r\n")
    assert body == b"inside"
    assert b"\r\ndate: " in head
    assert b"\r\nserver: " not in head


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_never_ends_is_cut_at_the_deadline(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http_server, "DEADLINE", 0.05)
    assert asyncio.run(_exchange(sent)) == b""


def test_a_client_that_stays_after_its_answer_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "DEADLINE", 0.05)
    assert asyncio.run(_exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).endswith(b"inside")


def test_a_head_that_is_too_large_is_refused() -> None:
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (2 * MAX_HEAD)
    assert asyncio.run(_exchange(sent)).startswith(b"HTTP/1.1 400 ")


def test_what_is_no_http_is_refused() -> None:
    assert asyncio.run(_exchange(b"\x16\x03\x01\x00\x05hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


def test_a_websocket_is_not_opened() -> None:
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert b" 101 " not in asyncio.run(_exchange(sent)).partition(b"\r\n")[0]


def test_too_many_requests_are_told_so_and_too_many_connections_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_REQUESTS", 3)
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 5)
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b" 200 " in asyncio.run(_exchange(sent, connections=2))
    assert b" 503 " in asyncio.run(_exchange(sent, connections=4))
    assert asyncio.run(_exchange(sent, connections=6)) == b""
