"""IMAP IDLE (RFC 2177): a client that waits for mail says nothing for half an hour, and nor may its server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from config.addresses import TcpAddress
from config.model import Config, ListenerConfig
from proxy.errors import Outcome
from proxy.leg import shared_buffer
from proxy.relay import Patience, Relay
from tests.support.engine import MemoryClient, engine_for, join
from tests.support.loop import Peer, TlsPeer, in_loop, tcp_pair
from tests.support.pki import self_signed
from tests.support.simulated_time import SimulatedTime

MINUTE = 60.0
PAIR = self_signed("imap.example.com")


@in_loop
async def test_a_silent_idle_lasts_35_minutes_and_a_word_of_either_side_begins_them_anew() -> None:
    listener = ListenerConfig(
        name="imap", bind=(TcpAddress("127.0.0.1", 143),), protocol="imap", tls="starttls", backend="127.0.0.1:10143"
    )
    patience = Config.defaults(Path()).idle_timeout_of(listener)
    loop = SimulatedTime(asyncio.get_running_loop())
    client, engine = MemoryClient(), engine_for(pair=PAIR)
    join(engine, client)
    client_far, client_near = tcp_pair()
    backend_far, backend_near = tcp_pair()
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    ends = (client_near, engine), (backend_near, None)
    relay = Relay(loop, *ends, shared_buffer(), Patience(loop, patience), ended.set_result)
    relay.start(b"", engine.output())
    user, server = TlsPeer(client_far, client), Peer(backend_far)

    await user.send(b"a IDLE\r\n")
    assert await server.receive(8) == b"a IDLE\r\n"
    loop.advance(35 * MINUTE - 1)
    await server.send(b"* 1 EXISTS\r\n")
    assert await user.receive(12) == b"* 1 EXISTS\r\n"
    loop.advance(35 * MINUTE - 1)
    await user.send(b"DONE\r\n")
    assert await server.receive(6) == b"DONE\r\n"
    loop.advance(35 * MINUTE - 1)
    assert not relay.over
    loop.advance(2)
    assert await ended is Outcome.IDLE
    user.close()
    server.close()
