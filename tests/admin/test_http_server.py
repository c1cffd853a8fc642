from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from admin import http_server
from admin.http_server import MAX_HEAD, BoundedProtocol, Server

T = TypeVar("T")


async def _serving(app: ASGIApp, client: Callable[[socket.socket], Awaitable[T]]) -> T:
    """Run a client of a server with this application."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server = Server(app)
    await server.listen(listening)
    try:
        async with asyncio.timeout(30):
            return await client(listening)
    finally:
        for one in server.servers:
            one.close()
        for connection in tuple(server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


async def _ask(listening: socket.socket, path: str) -> bytes:
    return await _say(listening, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())


async def _say(listening: socket.socket, sent: bytes) -> bytes:
    """What is answered until the connection is closed."""
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        writer.write(sent)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def _exchange(sent: bytes) -> bytes:
    """What a server answers until it closes."""
    return await _serving(PlainTextResponse("inside"), lambda listening: _say(listening, sent))


def test_an_answer_has_a_date_and_does_not_name_its_server() -> None:
    answer = asyncio.run(_exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    head, _, body = answer.lower().partition(b"\r\n\r\n")
    assert body == b"inside"
    assert b"\r\ndate: " in head
    assert b"\r\nserver: " not in head


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_never_ends_is_cut_at_its_deadline(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http_server, "HEAD_DEADLINE", 0.05)
    assert asyncio.run(_exchange(sent)) == b""


def test_a_second_head_that_never_ends_is_cut_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_DEADLINE", 0.05)
    assert asyncio.run(_exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT")).endswith(b"inside")


def test_a_client_that_stays_after_its_answer_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "patience", 0.05)
    assert asyncio.run(_exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).endswith(b"inside")


def test_bytes_of_a_head_do_not_move_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_DEADLINE", 0.1)

    async def drip(listening: socket.socket) -> bytes:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        reading = asyncio.create_task(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        while not reading.done():
            writer.write(b"a: b\r\n")
            await asyncio.sleep(0.01)
        writer.transport.abort()
        return b"" if reading.exception() else reading.result()

    assert asyncio.run(_serving(PlainTextResponse("inside"), drip)) == b""


def test_a_head_that_is_too_large_is_refused() -> None:
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (2 * MAX_HEAD)
    assert asyncio.run(_exchange(sent)).startswith(b"HTTP/1.1 400 ")


def test_what_is_no_http_is_refused() -> None:
    assert asyncio.run(_exchange(b"\x16\x03\x01\x00\x05hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


def test_a_websocket_is_not_opened() -> None:
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert b" 101 " not in asyncio.run(_exchange(sent)).partition(b"\r\n")[0]


def test_silent_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_REQUESTS", 3)
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 8)

    async def crowd(listening: socket.socket) -> None:
        silent = [await asyncio.open_connection(*listening.getsockname()) for _ in range(20)]
        for _ in range(3):
            assert b" 200 " in await _ask(listening, "/")
        ends = [asyncio.create_task(reader.read()) for reader, _ in silent]
        await asyncio.wait(ends[:12], timeout=10)
        assert all(one.done() for one in ends[:12])
        assert sum(not one.done() for one in ends) >= 4
        for _, writer in silent:
            writer.transport.abort()
        await asyncio.gather(*ends, return_exceptions=True)

    asyncio.run(_serving(PlainTextResponse("inside"), crowd))


def test_too_many_requests_in_progress_are_told_so_and_probes_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_REQUESTS", 3)
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 5)
    finish = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await finish.wait()
        await PlainTextResponse("inside")(scope, receive, send)

    async def crowd(listening: socket.socket) -> None:
        asked = [asyncio.create_task(_ask(listening, "/slow")) for _ in range(3)]
        while b" 503 " not in await _ask(listening, "/"):
            await asyncio.sleep(0.01)
        for probe in ("/healthz", "/readyz"):
            assert b" 200 " in await _ask(listening, probe)
        finish.set()
        assert all(b" 200 " in one for one in await asyncio.gather(*asked))
        assert b" 200 " in await _ask(listening, "/")

    asyncio.run(_serving(slow, crowd))


def test_where_every_connection_has_a_request_in_progress_the_oldest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    waiting = 0
    finish = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal waiting
        if scope["path"] != "/healthz":
            waiting += 1
            await finish.wait()
        await PlainTextResponse("inside")(scope, receive, send)

    async def crowd(listening: socket.socket) -> None:
        asked = []
        for number in range(3):
            asked.append(asyncio.create_task(_ask(listening, "/slow")))
            while waiting <= number:
                await asyncio.sleep(0.01)
        assert b" 200 " in await _ask(listening, "/healthz")
        finish.set()
        assert [b" 200 " in one for one in await asyncio.gather(*asked)] == [False, True, True]

    asyncio.run(_serving(slow, crowd))


@pytest.mark.parametrize("turns", range(5))
def test_whom_the_end_finds_half_accepted_is_answered(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """After some turns of the loop the connection is accepted, and has no transport yet."""
    monkeypatch.setattr(http_server, "LAST_REQUESTS", 0.2)

    async def answered() -> bytes:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        others = listening.dup()  # what comes too late waits here for the next to accept, as with control
        server, successor = Server(PlainTextResponse("inside")), Server(PlainTextResponse("inside"))
        await server.listen(listening)
        client = socket.create_connection(listening.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        ending = asyncio.create_task(server.end())
        await successor.listen(others)
        try:
            async with asyncio.timeout(20):
                found = b""
                while more := await asyncio.get_running_loop().sock_recv(client, 4096):
                    found += more
                return found
        finally:
            client.close()
            await ending
            await successor.end()

    assert asyncio.run(answered()).endswith(b"inside")
