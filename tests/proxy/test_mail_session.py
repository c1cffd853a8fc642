"""Sessions of mail clients that do not behave, and servers that do not want them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy import service as service_module
from proxy.errors import Outcome
from proxy.mail import MailService
from proxy.pool import Pool
from proxy.service import Service
from proxy.session import Session, State
from proxy.starttls.probe import Probed
from proxy.starttls.protocols import PROTOCOLS
from tests.fuzz.test_session_fuzz import PAIR, assert_counted_once, over, shake_hands
from tests.support.engine import MemoryClient
from tests.support.loop import Peer, in_loop, tcp_pair
from tests.support.pool import pool
from tests.support.service import service, value

CAPABILITIES = b"* CAPABILITY "
LONG = tuple(b"X%04d" % number for number in range(9000))


class Site:
    """An IMAP client whose session is under test, and its server, which the test plays."""

    def __init__(self, listening: socket.socket, backend: Pool) -> None:
        self.listening = listening
        self.backend = backend
        mail = MailService(PROTOCOLS["imap"], "mail.example.com", starttls=True, require_tls=True)
        mail.probed(Probed(b"ready", LONG))
        self.service: Service = service(PAIR, handshake_timeout=5, idle_timeout=5, backend=backend, mail=mail)
        self.near, far = tcp_pair()
        self.client = Peer(far)
        assert self.service.limits.admit("127.0.0.1")
        self.session = Session(self.service, self.near, ("127.0.0.1", 1))

    async def begin_tls(self) -> None:
        await self.client.receive(len(self.service.mail.dialogue().greeting) if self.service.mail else 0)
        await self.client.send(b"a STARTTLS\r\n")
        await self.client.receive(len(b"a OK Begin TLS negotiation now\r\n"))
        await shake_hands(MemoryClient(), self.client.socket)

    async def server(self) -> socket.socket:
        """The server's end of the next connection."""
        connection, _ = await asyncio.get_running_loop().sock_accept(self.listening)
        return connection

    def outcomes(self, outcome: Outcome) -> float:
        return value(self.service.metrics.outcomes[outcome])


@asynccontextmanager
async def site(client_address: str = "none") -> AsyncIterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        backend = pool(listening.getsockname()[1], client_address=client_address)
        await backend.resolver.first()
        one = Site(listening, backend)
        try:
            yield one
        finally:
            one.client.close()
            await over(one.session)
            assert_counted_once(one.service, one.near)


@in_loop
async def test_a_client_that_does_not_listen_is_not_listened_to() -> None:
    async with site() as one:
        await one.client.send(b"a CAPABILITY\r\n" * 45)
        while not one.session.blocked:
            await asyncio.sleep(0.01)
        held = one.session.held
        await one.client.send(b"b CAPABILITY\r\n")
        await asyncio.sleep(0.1)
        assert one.session.held <= held
        answers = b""
        while not answers.endswith(b"b OK Capability completed\r\n"):
            answers += await one.client.receive(1)
            answers += await asyncio.get_running_loop().sock_recv(one.client.socket, 1 << 16)
        assert answers.count(CAPABILITIES) == 46
        assert held > len(answers) / 4, "which is what makes the test one"
        await one.client.send(b"c LOGOUT\r\n")
        assert await one.client.rest() == (b"* BYE Logging out\r\nc OK Logout completed\r\n", "FIN")


@in_loop
async def test_a_client_that_leaves_before_its_server_has_greeted_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "GLANCE", 0.05)
    async with site() as one:
        await one.begin_tls()
        server = await one.server()
        await asyncio.sleep(0.2)
        assert one.session.state is State.DIALLING, "it is waited for while the client waits"
        one.client.finish()
        with server:
            assert await asyncio.get_running_loop().sock_recv(server, 10) == b""
        await over(one.session)
        assert one.outcomes(Outcome.RESET_BY_CLIENT) == 1
        (member,) = one.backend.servers
        assert (member.active, member.in_service) == (0, True)


@pytest.mark.parametrize(("client_address", "stays"), [("proxy-v1", True), ("none", False)])
@in_loop
async def test_a_server_that_drops_a_client_whom_it_knows_serves_the_others(client_address: str, stays: bool) -> None:
    async with site(client_address) as one:
        await one.begin_tls()
        (await one.server()).close()
        await over(one.session)
        assert one.outcomes(Outcome.BACKEND_UNREACHABLE) == 1
        (member,) = one.backend.servers
        assert (member.active, member.in_service) == (0, stays)
        assert [address.active for address in member.addresses.members] == [0]
