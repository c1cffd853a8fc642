from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.addresses import TcpAddress
from config.model import BackendConfig
from proxy.backend_tls import BackendTls
from proxy.errors import HandshakeError
from proxy.health import HealthChecks
from proxy.pool import Pool
from proxy.proxy_protocol import SIGNATURE_V2
from tests.proxy.test_dial import PAIR, ROOT, Accepting, serve
from tests.support.engine import engine_for
from tests.support.loop import in_loop
from tests.support.pki import self_signed
from tests.support.service import backend_metrics

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Checked:
    """A backend with one server at `accepting`, checked when the test says so."""

    def __init__(self, port: int, timeout: float = 5.0, **keys: Any) -> None:
        keys = {"client_address": "none", **keys}
        config = BackendConfig(name="web", servers=(TcpAddress("127.0.0.1", port),), **keys)
        tls = BackendTls(config) if config.tls == "verify" or config.check == "tls" else None
        self.server = Pool(config, timeout, tls, backend_metrics()).servers[0]
        self.checks = HealthChecks(config, tls, timeout)

    async def check(self, answer: Awaitable[Any] | None = None) -> bool:
        """Check while the server does its part; whether the server is in service then."""
        if answer is None:
            await self.checks.check(self.server)
        else:
            await asyncio.gather(self.checks.check(self.server), answer)
        assert self.server.active == 0
        assert [one.active for one in self.server.addresses.members] == [0]
        return self.server.in_service


@pytest.fixture
def accepting() -> Any:
    one = Accepting()
    yield one
    one.close()


async def answered(accepting: Accepting, answer: bytes, *, close: bool = True) -> bytes:
    """Answer one request; the request."""
    loop = asyncio.get_running_loop()
    sock = await accepting.accept()
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += await loop.sock_recv(sock, 4096)
    with contextlib.suppress(OSError):
        await loop.sock_sendall(sock, answer)
        while not close and await loop.sock_recv(sock, 4096):
            pass
    sock.close()
    return request


@in_loop
async def test_a_server_that_accepts_passes_a_tcp_check_and_one_that_does_not_fails_it(
    accepting: Accepting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = Checked(accepting.port, check="tcp")
    assert await one.check()
    accepting.close()
    assert not await one.check()
    assert not await one.check()
    with socket.create_server(("127.0.0.1", accepting.port)):
        assert await one.check()
    who = f"backend web: server 127.0.0.1:{accepting.port}"
    assert caplog.messages == [
        f"{who} fails its check: Connection refused; it is used all the same, being the only one",
        f"{who} can be reached again",
    ]


@in_loop
async def test_a_check_that_passes_heals_a_server_that_could_not_be_reached(accepting: Accepting) -> None:
    one = Checked(accepting.port, check="tcp")
    one.server.take(0.0)
    one.server.not_reached("Connection refused", asyncio.get_running_loop().time())
    assert not one.server.in_service
    assert await one.check()


@in_loop
async def test_an_http_check_asks_for_its_path_and_wants_its_status(accepting: Accepting, caplog: Any) -> None:
    one = Checked(accepting.port, check="http", check_path="/up?x=1", check_status=(200, 204))
    request = asyncio.ensure_future(answered(accepting, OK))
    assert await one.check(request)
    lines = request.result().decode().split("\r\n")
    assert lines[0] == "GET /up?x=1 HTTP/1.1"
    assert "host: 127.0.0.1" in [line.lower() for line in lines]
    assert await one.check(answered(accepting, b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert not await one.check(answered(accepting, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))
    assert "fails its check: it answered GET /up?x=1 with 503, not with 200 or 204; " in caplog.text


@pytest.mark.parametrize(
    "answer",
    [b"", b"* OK ready\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, b"HTTP/1.1 200", b"\0" * 40_000],
    ids=["nothing", "imap", "endless", "half", "zeros"],
)
@in_loop
async def test_what_is_no_answer_fails_the_check(accepting: Accepting, answer: bytes, caplog: Any) -> None:
    assert not await Checked(accepting.port, check="http").check(answered(accepting, answer))
    assert "fails its check" in caplog.text


@in_loop
async def test_an_interim_answer_is_not_the_answer(accepting: Accepting) -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + OK
    assert await Checked(accepting.port, check="http").check(answered(accepting, answer))


@in_loop
async def test_a_check_has_a_deadline_for_everything(accepting: Accepting, caplog: Any) -> None:
    one = Checked(accepting.port, check="http", timeout=0.2)
    assert not await one.check(answered(accepting, b"HTTP/1.1 200 OK\r\n", close=False))
    assert "it was not done within 0.2 s" in caplog.text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail)))
def test_nothing_that_a_server_answers_breaks_the_checks(answer: bytes) -> None:
    async def check() -> None:
        accepting = Accepting()
        await Checked(accepting.port, check="http").check(answered(accepting, answer))
        accepting.close()

    in_loop(check)()


@pytest.mark.parametrize(
    ("told", "header"), [("proxy-v2", SIGNATURE_V2 + b"\x20\0\0\0"), ("proxy-v1", b"PROXY UNKNOWN\r\n")]
)
@in_loop
async def test_a_server_that_wants_proxy_headers_gets_one_that_tells_of_no_client(
    accepting: Accepting, told: str, header: bytes
) -> None:
    request = asyncio.ensure_future(answered(accepting, OK))
    assert await Checked(accepting.port, check="http", client_address=told).check(request)
    assert request.result().startswith(header + b"GET / HTTP/1.1\r\n")

    async def one_connection() -> bytes:
        sock = await accepting.accept()
        received = b""
        while data := await asyncio.get_running_loop().sock_recv(sock, 4096):
            received += data
        sock.close()
        return received

    received = asyncio.ensure_future(one_connection())
    assert await Checked(accepting.port, check="tcp", client_address=told).check(received)
    assert received.result() == header


@in_loop
async def test_a_tls_check_verifies_where_the_backend_does(accepting: Accepting, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    verified = Checked(accepting.port, check="tls", tls="verify", tls_ca=str(tmp_path / "ca.pem"), tls_name="localhost")
    unverified = Checked(accepting.port, check="tls")

    async def handshake(pair: Any) -> None:
        with await accepting.accept() as sock:
            await serve(sock, engine_for(pair=pair))

    async def refused(pair: Any) -> None:
        with pytest.raises(HandshakeError, match="does not trust"):
            await handshake(pair)

    assert await verified.check(handshake(PAIR))
    assert not await verified.check(refused(self_signed("localhost")))
    assert await unverified.check(handshake(self_signed("anything")))


@in_loop
async def test_an_http_check_goes_over_tls_where_the_backend_has_it(accepting: Accepting, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    one = Checked(
        accepting.port,
        check="http",
        tls="verify",
        tls_ca=str(tmp_path / "ca.pem"),
        tls_name="localhost",
        client_address="proxy-v2",
    )

    async def answer() -> None:
        loop, engine = asyncio.get_running_loop(), engine_for(pair=PAIR)
        sock = await accepting.accept()
        assert await serve(sock, engine, skip=16) == SIGNATURE_V2 + b"\x20\0\0\0"
        request = bytes(engine.decode(b""))
        while not request.endswith(b"\r\n\r\n"):
            request += engine.decode(await loop.sock_recv(sock, 4096))
        assert b"host: localhost\r\n" in request.lower()
        await loop.sock_sendall(sock, engine.encode(OK))
        sock.close()

    assert await one.check(answer())


@in_loop
async def test_checks_that_are_cancelled_leave_nothing_open(accepting: Accepting) -> None:
    one = Checked(accepting.port, check="http", check_interval=0.001)
    task = asyncio.create_task(one.checks.keep([one.server], worker=0))
    sock = await accepting.accept()
    await asyncio.get_running_loop().sock_recv(sock, 4096)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.get_running_loop().sock_recv(sock, 4096) == b""
    assert one.server.addresses.members[0].active == 0
    sock.close()


@in_loop
async def test_a_backend_without_checks_is_not_connected_to(accepting: Accepting) -> None:
    one = Checked(accepting.port)
    await one.checks.keep([one.server], worker=3)
