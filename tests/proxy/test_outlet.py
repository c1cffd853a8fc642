from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.outlet import Outlet, OutletStage
from tests.support.loop import Peer, in_loop, tcp_pair

LARGE = bytes(range(256)) * (16 << 10)  # 4 MiB: more than the sockets on the way hold


class Noting(Outlet):
    """An outlet that notes what it is outlet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        super().__init__(loop, sock)
        self.times_drained = 0
        self.failures = 0
        self.was_drained = asyncio.Event()
        self.has_failed = asyncio.Event()

    def drained(self) -> None:
        self.times_drained += 1
        self.was_drained.set()

    def send_failed(self) -> None:
        self.failures += 1
        self.has_failed.set()


def make() -> tuple[Noting, socket.socket, Peer]:
    near, far = tcp_pair()
    return Noting(asyncio.get_running_loop(), near), near, Peer(far)


@in_loop
async def test_what_the_kernel_takes_at_once_is_neither_held_nor_announced() -> None:
    outlet, near, far = make()
    outlet.send(b"hello")
    assert not outlet.blocked
    assert await far.receive(5) == b"hello"
    assert outlet.times_drained == 0
    near.close()
    far.close()


@in_loop
async def test_what_the_kernel_does_not_take_is_held_until_it_does_and_announced_once() -> None:
    outlet, near, far = make()
    outlet.send(LARGE)
    assert outlet.blocked
    assert 0 < outlet.held < len(LARGE)
    assert await far.receive(len(LARGE)) == LARGE
    await outlet.was_drained.wait()
    assert not outlet.blocked
    assert outlet.held == 0
    assert outlet.times_drained == 1
    near.close()
    far.close()


@in_loop
async def test_what_is_sent_while_blocked_follows_in_order() -> None:
    outlet, near, far = make()
    outlet.send(LARGE)
    outlet.send(b"second")
    outlet.send(b"third")
    assert await far.receive(len(LARGE) + 11) == LARGE + b"secondthird"
    near.close()
    far.close()


@in_loop
async def test_shut_sends_fin_at_once_when_nothing_is_held() -> None:
    outlet, near, far = make()
    outlet.send(b"bye")
    outlet.shut()
    assert outlet.stage is OutletStage.FINISHED
    assert await far.rest() == (b"bye", "FIN")
    near.close()
    far.close()


@in_loop
async def test_shut_sends_fin_behind_what_is_held_and_only_then_counts_as_finished() -> None:
    outlet, near, far = make()
    outlet.send(LARGE)
    outlet.shut()
    outlet.shut()
    assert outlet.stage is OutletStage.FINISHING
    assert await far.rest() == (LARGE, "FIN")
    await outlet.was_drained.wait()
    assert outlet.stage.name == "FINISHED"
    assert outlet.times_drained == 1
    near.close()
    far.close()


@in_loop
async def test_a_peer_that_resets_fails_the_outlet_while_it_waits() -> None:
    outlet, near, far = make()
    outlet.send(LARGE)
    far.reset()
    await outlet.has_failed.wait()
    outlet.drop()
    assert outlet.failures == 1
    assert outlet.times_drained == 0
    near.close()


@in_loop
async def test_a_send_to_a_peer_that_is_gone_fails_the_outlet_at_once() -> None:
    outlet, near, far = make()
    far.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(near, 1)
    outlet.send(b"hello")
    assert outlet.failures == 1
    assert outlet.held == 0
    near.close()


@in_loop
async def test_a_fin_to_a_peer_that_is_gone_fails_the_outlet() -> None:
    outlet, near, far = make()
    far.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(near, 1)
    outlet.shut()
    assert outlet.failures == 1
    near.close()


@in_loop
async def test_drop_forgets_what_is_held_and_leaves_the_loop() -> None:
    outlet, near, far = make()
    outlet.send(LARGE)
    sent = len(LARGE) - outlet.held
    outlet.drop()
    outlet.drop()
    assert not outlet.blocked
    near.close()
    data, end = await far.rest()
    assert (data, end) == (LARGE[:sent], "FIN")
    assert outlet.times_drained == 0
    assert outlet.failures == 0
    far.close()
