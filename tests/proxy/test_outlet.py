from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

import pytest

from proxy.outlet import Outlet, OutletState
from tests.support.loop import Peer, in_loop, tcp_pair

LARGE = bytes(range(256)) * (16 << 10)  # 4 MiB: more than the sockets on the way hold


@dataclass
class Told:
    """What an outlet told its feeder."""

    times_drained: int = 0
    failures: int = 0
    was_drained: asyncio.Event = field(default_factory=asyncio.Event)
    has_failed: asyncio.Event = field(default_factory=asyncio.Event)

    def drained(self) -> None:
        self.times_drained += 1
        self.was_drained.set()

    def send_failed(self) -> None:
        self.failures += 1
        self.has_failed.set()


def make() -> tuple[Outlet, Told, socket.socket, Peer]:
    near, far = tcp_pair()
    told = Told()
    return Outlet(asyncio.get_running_loop(), near, told), told, near, Peer(far)


@in_loop
async def test_what_the_kernel_takes_at_once_is_neither_held_nor_announced() -> None:
    outlet, told, near, far = make()
    outlet.send(b"hello")
    assert not outlet.blocked
    assert outlet.sent == 5
    assert await far.receive(5) == b"hello"
    assert told.times_drained == 0
    near.close()
    far.close()


@in_loop
async def test_what_the_kernel_does_not_take_is_held_until_it_does_and_announced_once() -> None:
    outlet, told, near, far = make()
    outlet.send(LARGE)
    assert outlet.blocked
    assert 0 < outlet.sent < len(LARGE)
    assert await far.receive(len(LARGE)) == LARGE
    await told.was_drained.wait()
    assert not outlet.blocked
    assert outlet.sent == len(LARGE)
    assert told.times_drained == 1
    near.close()
    far.close()


@in_loop
async def test_what_is_sent_while_blocked_follows_in_order() -> None:
    outlet, _, near, far = make()
    outlet.send(LARGE)
    outlet.send(b"second")
    outlet.send(b"third")
    assert await far.receive(len(LARGE) + 11) == LARGE + b"secondthird"
    near.close()
    far.close()


@in_loop
async def test_finish_sends_fin_at_once_when_nothing_is_held() -> None:
    outlet, _, near, far = make()
    outlet.send(b"bye")
    outlet.finish()
    assert outlet.state is OutletState.FINISHED
    assert await far.rest() == (b"bye", "FIN")
    near.close()
    far.close()


@in_loop
async def test_finish_sends_fin_behind_what_is_held_and_only_then_counts_as_finished() -> None:
    outlet, told, near, far = make()
    outlet.send(LARGE)
    outlet.finish()
    outlet.finish()
    assert outlet.state is OutletState.FINISHING
    assert await far.rest() == (LARGE, "FIN")
    await told.was_drained.wait()
    assert outlet.state.name == "FINISHED"
    assert told.times_drained == 1
    near.close()
    far.close()


@in_loop
async def test_a_peer_that_resets_fails_the_outlet_while_it_waits() -> None:
    outlet, told, near, far = make()
    outlet.send(LARGE)
    far.reset()
    await told.has_failed.wait()
    outlet.close()
    assert told.failures == 1
    assert told.times_drained == 0
    near.close()


@in_loop
async def test_a_send_to_a_peer_that_is_gone_fails_the_outlet_at_once() -> None:
    outlet, told, near, far = make()
    far.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(near, 1)
    outlet.send(b"hello")
    assert told.failures == 1
    assert outlet.sent == 0
    near.close()


@in_loop
async def test_a_fin_to_a_peer_that_is_gone_fails_the_outlet() -> None:
    outlet, told, near, far = make()
    far.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(near, 1)
    outlet.finish()
    assert told.failures == 1
    near.close()


@in_loop
async def test_close_forgets_what_is_held_and_leaves_the_loop() -> None:
    outlet, told, near, far = make()
    outlet.send(LARGE)
    sent = outlet.sent
    outlet.close()
    outlet.close()
    assert not outlet.blocked
    near.close()
    data, end = await far.rest()
    assert (data, end) == (LARGE[:sent], "FIN")
    assert told.times_drained == 0
    assert told.failures == 0
    far.close()
