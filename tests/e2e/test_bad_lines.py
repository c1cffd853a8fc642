"""Streams over bad lines on both sides of snigate: they arrive byte by byte, and end as they were ended."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.support.bad_line import BadLine
from tests.support.engine import MemoryClient, MemoryServer, client_context
from tests.support.loop import Peer, TlsPeer
from tests.support.pki import Authority
from tests.support.ports import free_port
from tests.support.snigate import Snigate, wait_for

PATIENCE = 90.0  # seconds that what is done in the loop may take
MEGABYTE = 1 << 20
ROOT = Authority.make()
INNER = "inner.example"  # whom the backends' certificates are for
PAIR = ROOT.issue(INNER)
MAIL = "mail.example"

Result = TypeVar("Result")


class Loop:
    """An event loop in a thread: the lines, the backends and the clients are in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: list[Future[None]] = []

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do this, and wait for what comes of it."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, PATIENCE), self._loop).result()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this until the end."""
        self._running.append(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        """End all that was begun; raises what has ended it before."""
        for one in self._running:
            if not one.cancel():
                one.result()
        asyncio.run_coroutine_threadsafe(self._all_ended(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _all_ended(self) -> None:
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


class Backend:
    """Listens on loopback (`port`). A connection's first line says who is to have it, behind what is said before."""

    def __init__(self, *, tls: bool = False, mail: bool = False) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._tls, self._mail = tls, mail
        self._awaited: dict[bytes, asyncio.Future[Peer]] = {}

    async def run(self) -> None:
        """Serve, until cancelled."""
        with self._socket:
            async with asyncio.TaskGroup() as group:
                while True:
                    sock, _ = await asyncio.get_running_loop().sock_accept(self._socket)
                    group.create_task(self._serve(Peer(sock)))

    def expect(self, line: bytes) -> asyncio.Future[Peer]:
        """The connection with this first line, once it is there."""
        self._awaited[line] = asyncio.get_running_loop().create_future()
        return self._awaited[line]

    async def _serve(self, peer: Peer) -> None:
        try:
            if self._tls:
                peer = await self._secured(peer)
            if self._mail:
                await peer.send(b"220 mx ESMTP\r\n")
            while (line := await peer.until(b"\r\n")) not in self._awaited:
                if line.startswith(b"EHLO"):
                    await peer.send(b"250-mx\r\n250 STARTTLS\r\n")
                elif line == b"STARTTLS\r\n":
                    await peer.send(b"220 go on\r\n")
                    peer = await self._secured(peer)
            self._awaited.pop(line).set_result(peer)
        except (AssertionError, ConnectionError):  # a look at the server, and no client
            peer.close()

    async def _secured(self, peer: Peer) -> TlsPeer:
        secured = TlsPeer(peer.socket, MemoryServer(PAIR))
        await secured.handshake()
        return secured


class Way(NamedTuple):
    """From a client to a backend."""

    line: BadLine
    backend: Backend
    name: str
    mail: bool


class Place(NamedTuple):
    """A snigate between bad lines, and the ways through it."""

    loop: Loop
    snigate: Snigate
    ways: dict[str, Way]

    def counted(self, outcome: str) -> float:
        return self.snigate.metric("snigate_connections_total", outcome=outcome)


ENDS_OF_BACKENDS = {
    "terminate": "FIN",
    "passthrough": "close_notify",
    "backend-tls": "close_notify",
    "starttls": "close_notify",
}
WAYS = pytest.mark.parametrize("way", ENDS_OF_BACKENDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory: Path = tmp_path_factory.mktemp("bad-lines")
    (directory / "ca.pem").write_bytes(ROOT.pem)
    backends = {
        "terminate": Backend(),
        "passthrough": Backend(tls=True),
        "backend-tls": Backend(tls=True),
        "starttls": Backend(mail=True),
    }
    inner = {name: BadLine(backend.port, seed) for seed, (name, backend) in enumerate(backends.items())}
    mail = free_port()
    verified = f'tls_ca = "ca.pem"\ntls_name = "{INNER}"\n'
    text = "".join(
        f'[backends.{name}]\nservers = ["127.0.0.1:{line.port}"]\nclient_address = "none"\n'
        + {"backend-tls": f'tls = "verify"\n{verified}', "starttls": f'tls = "starttls"\n{verified}'}.get(name, "")
        for name, line in inner.items()
    )
    text += '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "terminate"\n'
    text += '[[listeners.routes]]\nhosts = ["passthrough.example"]\naction = "passthrough"\nbackend = "passthrough"\n'
    text += '[[listeners.routes]]\nhosts = ["backend-tls.example"]\nbackend = "backend-tls"\n'
    text += f'[[listeners]]\nname = "mail"\nbind = ["127.0.0.1:{mail}"]\nprotocol = "smtp"\ntls = "starttls"\n'
    text += f'default = "{MAIL}"\nbackend = "starttls"\n'
    snigate = Snigate(directory, text)
    outer = {name: BadLine(mail if name == "starttls" else snigate.port, seed) for seed, name in enumerate(inner, 100)}
    loop = Loop()
    runners: tuple[Backend | BadLine, ...] = (*backends.values(), *inner.values(), *outer.values())
    for one in runners:
        loop.begin(one.run())
    with contextlib.closing(loop), snigate:
        yield Place(
            loop,
            snigate,
            {name: Way(outer[name], backends[name], f"{name}.example", name == "starttls") for name in inner},
        )


@contextlib.asynccontextmanager
async def through(way: Way, word: str) -> AsyncIterator[tuple[TlsPeer, Peer]]:
    """Both ends of a new connection: the client's and the backend's."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", way.line.port))
    if way.mail:
        plain = Peer(sock)
        await plain.until(b"\r\n")
        await plain.send(b"EHLO me\r\n")
        await plain.until(b"250 STARTTLS\r\n")
        await plain.send(b"STARTTLS\r\n")
        await plain.until(b"\r\n")
    client = TlsPeer(sock, MemoryClient(client_context(), way.name.encode()))
    await client.handshake()
    line = f"{word}\r\n".encode()
    arrival = way.backend.expect(line)
    await client.send(line)
    server = await arrival
    try:
        yield client, server
    finally:
        client.close()
        server.close()


async def sent_and_ended(peer: Peer, data: bytes) -> None:
    await peer.send(data)
    await peer.end()


async def exchanged(way: Way, word: str, upload: bytes, download: bytes) -> list[tuple[str, str]]:
    """What backend and client have received and how it ended, where both say all they have at the same time."""
    async with through(way, word) as (client, server):
        *_, at_backend, at_client = await asyncio.gather(
            sent_and_ended(client, upload), sent_and_ended(server, download), server.rest(), client.rest()
        )
    return [(digest(data), end) for data, end in (at_backend, at_client)]


def digest(data: bytes) -> str:
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}"


@WAYS
def test_streams_arrive_byte_by_byte_whichever_ends_first(place: Place, way: str) -> None:
    sizes = [(4 * MEGABYTE, MEGABYTE), (MEGABYTE, 4 * MEGABYTE), (3 * MEGABYTE, 3 * MEGABYTE), (0, MEGABYTE), (1, 0)]
    some = random.Random(way).randbytes(4 * MEGABYTE)
    streams = [(some[:upload], some[::-1][:download]) for upload, download in sizes]
    before = place.counted("served")

    async def all_at_once() -> list[list[tuple[str, str]]]:
        return await asyncio.gather(
            *(exchanged(place.ways[way], f"{number}", *both) for number, both in enumerate(streams))
        )

    assert place.loop.run(all_at_once()) == [
        [(digest(upload), ENDS_OF_BACKENDS[way]), (digest(download), "close_notify")] for upload, download in streams
    ]
    wait_for(lambda: place.counted("served") == before + len(streams), "they are counted as served")


async def received_until_reset(peer: Peer, data: bytes) -> tuple[bytes, bool]:
    """What is received by a peer that sends all the while, and whether it ends with a reset."""
    results = await asyncio.gather(peer.send(data), peer.rest(), return_exceptions=True)
    received = results[1]
    assert isinstance(received, tuple), results
    was_reset = received[1] == "RST" or isinstance(results[0], ConnectionResetError)  # which the kernel tells once
    return received[0], was_reset


async def reset_in_the_midst(way: Way, word: str, data: bytes, by_client: bool) -> tuple[bytes, bool]:
    """What the one end has received when the other, after a while of talking and listening, resets."""
    async with through(way, word) as (client, server):
        one, other = (client, server) if by_client else (server, client)
        sending = asyncio.ensure_future(one.send(data))
        meanwhile = asyncio.ensure_future(received_until_reset(other, data))
        heard = 0
        while heard < MEGABYTE:
            heard += len(await one.some())
        sending.cancel()
        await asyncio.wait([sending])
        one.reset()
        return await meanwhile


@pytest.mark.parametrize("by", ["client", "backend"])
@WAYS
def test_a_reset_is_passed_on_as_one_and_what_came_before_it_is_true(place: Place, way: str, by: str) -> None:
    outcome = f"reset_by_{by}"
    before = place.counted(outcome)
    data = random.Random(way).randbytes(8 * MEGABYTE)
    received, was_reset = place.loop.run(reset_in_the_midst(place.ways[way], f"reset by {by}", data, by == "client"))
    assert was_reset
    assert len(received) < len(data)
    assert data.startswith(received)
    wait_for(lambda: place.counted(outcome) == before + 1, "it is counted")
