"""Relays with other layers than TLS before plain text: TLS on both legs, and none on either (passthrough)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop

from proxy.errors import Outcome
from proxy.leg import shared_buffer
from proxy.poller import Poller
from proxy.relay import Patience, Relay
from proxy.tls_engine import TlsEngine
from tests.support.engine import MemoryClient, client_context, engine_for, join
from tests.support.loop import Peer, TlsPeer, in_loop, tcp_pair
from tests.support.pki import self_signed

PAIR = self_signed("www.example.com")
LARGE = bytes(range(256)) * (16 << 10)  # 4 MiB: more than the sockets on the way hold


class EngineClient(MemoryClient):
    """A server's engine with a test client's methods: the backend's end of TLS."""

    def __init__(self, engine: TlsEngine) -> None:
        self.engine = engine
        self.closed = False

    def receive(self, data: bytes) -> None:
        self.engine.receive(data)

    def read(self) -> bytes:
        data = bytes(self.engine.decode(b""))
        self.closed = self.engine.ended
        return data

    def write(self, data: bytes) -> bytes:
        return bytes(self.engine.encode(data))

    def close(self) -> bytes:
        return bytes(self.engine.close())


class Ends(NamedTuple):
    """The far ends of a relay."""

    client: Peer
    backend: Peer
    ended: asyncio.Future[Outcome]


@pytest.fixture(params=["spliced", "copied"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How bytes pass through; none of the descriptors that it takes may be left open."""
    monkeypatch.setattr("proxy.relay.AVAILABLE", request.param == "spliced")
    uvloop.run(asyncio.sleep(0))  # its first loop opens some for good
    gc.collect()  # what other tests have left may go now, but not meanwhile
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.asynccontextmanager
async def passed_through(expected: Outcome) -> AsyncIterator[Ends]:
    """No TLS on either leg; the backend is first sent "hello"."""
    loop = Poller(asyncio.get_running_loop())
    client_far, client_near = tcp_pair()
    backend_far, backend_near = tcp_pair()
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    near = (client_near, None), (backend_near, None)
    Relay(loop, *near, shared_buffer(), Patience(loop, 60), ended.set_result).start(b"hello")
    with client_far, backend_far:
        yield Ends(Peer(client_far), Peer(backend_far), ended)
        assert await asyncio.wait_for(ended, 10) is expected


@contextlib.asynccontextmanager
async def encrypted_twice(expected: Outcome) -> AsyncIterator[tuple[TlsPeer, TlsPeer]]:
    """TLS on both legs, handshakes done: the far ends of client and backend."""
    loop = Poller(asyncio.get_running_loop())
    client, towards_client = MemoryClient(), engine_for(pair=PAIR)
    join(towards_client, client)
    towards_backend, backend = TlsEngine.connecting(client_context(), "backend.example"), engine_for(pair=PAIR)
    done = False
    while not done:
        done = towards_backend.handshake()
        backend.receive(towards_backend.output())
        backend.handshake()
        towards_backend.receive(backend.output())
    client_far, client_near = tcp_pair()
    backend_far, backend_near = tcp_pair()
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    near = (client_near, towards_client), (backend_near, towards_backend)
    Relay(loop, *near, shared_buffer(), Patience(loop, 60), ended.set_result).start()
    with client_far, backend_far:
        yield TlsPeer(client_far, client), TlsPeer(backend_far, EngineClient(backend))
        assert await asyncio.wait_for(ended, 10) is expected


@in_loop
async def test_what_passes_through_is_unharmed_in_both_directions_at_once() -> None:
    async with passed_through(Outcome.SERVED) as (client, backend, _):
        assert await backend.receive(5) == b"hello"
        backwards = LARGE[::-1]
        _, up, _, down = await asyncio.gather(
            client.send(LARGE), backend.receive(len(LARGE)), backend.send(backwards), client.receive(len(LARGE))
        )
        assert (up, down) == (LARGE, backwards)
        client.finish()
        backend.close()


@in_loop
async def test_bytes_that_a_peer_has_not_taken_yet_survive_the_next_read_into_the_shared_buffer() -> None:
    async with passed_through(Outcome.SERVED) as (client, backend, _):
        assert await backend.receive(5) == b"hello"
        sending = asyncio.ensure_future(client.send(LARGE))
        await asyncio.sleep(0.05)  # until the backend's socket is full
        await backend.send(b"overwritten?" * 1000)
        assert await client.receive(12000) == b"overwritten?" * 1000
        assert await backend.receive(len(LARGE)) == LARGE
        await sending
        client.finish()
        backend.close()


@in_loop
async def test_a_fin_that_passes_through_leaves_the_other_direction_open() -> None:
    async with passed_through(Outcome.SERVED) as (client, backend, _):
        client.finish()
        assert await backend.rest() == (b"hello", "FIN")
        await backend.send(b"answer")
        backend.finish()
        assert await client.rest() == (b"answer", "FIN")


@in_loop
async def test_resets_pass_through_in_both_directions() -> None:
    async with passed_through(Outcome.RESET_BY_CLIENT) as (client, backend, _):
        assert await backend.receive(5) == b"hello"
        client.reset()
        assert await backend.rest() == (b"", "RST")
    async with passed_through(Outcome.RESET_BY_BACKEND) as (client, backend, _):
        backend.reset()
        assert await client.rest() == (b"", "RST")


@in_loop
async def test_with_tls_on_both_legs_a_close_notify_becomes_a_close_notify() -> None:
    async with encrypted_twice(Outcome.SERVED) as (client, backend):
        await client.send(b"question")
        assert await backend.receive(8) == b"question"
        await client.send_close_notify()
        await backend.send(b"answer")
        assert await backend.rest() == (b"", "close_notify")
        await backend.send_close_notify()
        assert await client.rest() == (b"answer", "close_notify")


@in_loop
async def test_a_backend_that_is_cut_off_in_tls_never_looks_like_a_clean_end_to_the_client() -> None:
    async with encrypted_twice(Outcome.TRUNCATED_BY_BACKEND) as (client, backend):
        (data, end), _ = await asyncio.gather(client.rest(), send_and_finish(backend))
        assert data == LARGE
        assert end == "FIN"


async def send_and_finish(backend: TlsPeer) -> None:
    await backend.send(LARGE)
    backend.finish()


@in_loop
async def test_a_backend_that_answers_the_end_with_a_bare_fin_has_still_cut_its_answer_short() -> None:
    async with encrypted_twice(Outcome.TRUNCATED_BY_BACKEND) as (client, backend):
        await client.send_close_notify()
        assert await backend.rest() == (b"", "close_notify")
        await backend.send(b"half an ans")
        backend.finish()
        assert await client.rest() == (b"half an ans", "FIN")


@in_loop
async def test_a_backend_that_breaks_tls_resets_the_client() -> None:
    async with encrypted_twice(Outcome.BACKEND_PROTOCOL_ERROR) as (client, backend):
        await Peer.send(backend, b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await client.rest() == (b"", "RST")
        raw, end = await Peer.rest(backend)
        assert raw[0] in (21, 23)
        assert end == "FIN"
