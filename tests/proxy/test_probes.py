from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.mail import MailService
from proxy.poller import Poller
from proxy.probes import INTERVAL, Probes
from proxy.starttls.protocols import PROTOCOLS
from tests.support.loop import in_loop
from tests.support.pool import pool

UNTOLD = b"220 mx.example.com ESMTP\r\n"


class Site:
    """A listener's probes, and its server, which says what the test sets: nothing while it is out of service."""

    def __init__(self, listening: socket.socket) -> None:
        self.mail = MailService(PROTOCOLS["smtp"], "mx.example.com", starttls=True, require_tls=True)
        self.pool = pool(listening.getsockname()[1])
        loop = asyncio.get_running_loop()
        self.probes = Probes(Poller(loop), "mx", self.mail, self.pool)
        self.greeting = ""
        self.heard = b""

    @property
    def told(self) -> bytes:
        """How clients are greeted."""
        return self.mail.dialogue().greeting

    async def ask(self, greeting: str) -> bytes:
        """Ask a server that greets so; how clients are greeted then."""
        self.greeting = greeting
        await self.probes.ask()
        (server,) = self.pool.servers
        assert server.active == 0, "a probe holds no place afterwards"
        return self.told

    async def serve(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            with connection:
                connection.setblocking(False)
                if self.greeting:
                    await loop.sock_sendall(connection, f"220 mx.internal {self.greeting}\r\n".encode())
                    self.heard = await loop.sock_recv(connection, 4096)
                    await loop.sock_sendall(connection, b"250-mx.internal\r\n250 SIZE 1000\r\n")
                    self.heard += await loop.sock_recv(connection, 4096)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        one = Site(listening)
        serving = asyncio.get_running_loop().create_task(one.serve(listening))
        try:
            yield one
        finally:
            serving.cancel()


@in_loop
async def test_clients_are_told_what_the_server_says_of_itself() -> None:
    async with site() as one:
        assert one.told == UNTOLD
        assert await one.ask("ready") == b"220 mx.example.com ready\r\n"
        while one.heard != b"EHLO mx.example.com\r\nQUIT\r\n":
            await asyncio.sleep(0.01)
        assert await one.ask("newer") == b"220 mx.example.com newer\r\n"


@in_loop
async def test_what_was_said_last_holds_while_the_server_cannot_be_asked_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "snigate.mail")

    def logged() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.name == "snigate.mail"]

    async with site() as one:
        assert await one.ask("") == UNTOLD
        assert await one.ask("") == UNTOLD
        (warning,) = logged()
        assert warning.startswith(
            f"listener mx: server {one.pool.servers[0].name} of backend web does not say what it can do: "
        )
        assert "its greeting" in warning
        told = await one.ask("ready")
        assert logged()[1:] == [f"listener mx: server {one.pool.servers[0].name} of backend web says what it can do"]
        assert await one.ask("") == told
        assert len(logged()) == 3


@in_loop
async def test_a_server_that_cannot_be_asked_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    answers = iter(["", "", "", "", "", "", "", "", "ready", ""])

    async with site() as one:

        async def note(seconds: float) -> None:
            assert one.probes.asked.is_set()
            waits.append(seconds)
            one.greeting = next(answers)

        monkeypatch.setattr("asyncio.sleep", note)
        one.greeting = next(answers)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await one.probes.keep()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, INTERVAL, 1]
