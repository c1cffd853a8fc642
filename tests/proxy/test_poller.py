from __future__ import annotations

import asyncio
import os
import socket
from functools import partial

import pytest
import uvloop

from proxy.poller import AT_ONCE, ROUNDS, Poller
from tests.support.loop import in_loop, tcp_pair


class Watched:
    """A socket whose callbacks note that they were called, and read one byte."""

    def __init__(self, poller: Poller, heard: list[str]) -> None:
        self.socket, self.peer = tcp_pair()
        self.fd = self.socket.fileno()
        self.poller = poller
        self.heard = heard

    def readable(self) -> None:
        self.heard.append("readable")
        self.socket.recv(1)

    def writable(self) -> None:
        self.heard.append("writable")

    def close(self) -> None:
        self.poller.remove_reader(self.fd)
        self.poller.remove_writer(self.fd)
        self.socket.close()
        self.peer.close()


async def passed() -> None:
    """Time for everything that is ready."""
    await asyncio.sleep(0.02)


@in_loop
async def test_a_reader_is_called_while_there_is_something_to_read_and_no_longer() -> None:
    heard: list[str] = []
    one = Watched(Poller(asyncio.get_running_loop()), heard)
    one.poller.add_reader(one.fd, one.readable)
    one.peer.send(b"abc")
    await passed()
    assert heard == ["readable"] * 3
    one.close()


@in_loop
async def test_a_writer_is_called_beside_a_reader_and_each_can_be_removed_alone() -> None:
    heard: list[str] = []
    one = Watched(Poller(asyncio.get_running_loop()), heard)

    def written() -> None:
        one.writable()
        one.poller.remove_writer(one.fd)

    one.poller.add_reader(one.fd, one.readable)
    one.poller.add_writer(one.fd, written)
    await passed()
    assert heard == ["writable"]
    one.poller.add_writer(one.fd, written)
    one.poller.remove_reader(one.fd)
    one.peer.send(b"a")
    await passed()
    assert heard == ["writable"] * 2
    one.poller.add_reader(one.fd, one.readable)
    await passed()
    assert heard == ["writable", "writable", "readable"]
    one.close()


@in_loop
async def test_a_new_callback_takes_the_place_of_the_one_before() -> None:
    heard: list[str] = []
    one = Watched(Poller(asyncio.get_running_loop()), heard)
    one.poller.add_reader(one.fd, pytest.fail)
    one.poller.add_reader(one.fd, one.readable)
    one.peer.send(b"a")
    await passed()
    assert heard == ["readable"]
    one.close()


@in_loop
async def test_to_remove_what_is_not_watched_does_nothing() -> None:
    one = Watched(Poller(asyncio.get_running_loop()), [])
    one.close()
    one.poller.remove_reader(one.fd)
    one.poller.remove_writer(one.fd)


@pytest.mark.parametrize("interest", ["reader", "writer"])
@in_loop
async def test_whoever_watches_hears_of_a_reset(interest: str) -> None:
    heard: list[str] = []
    one = Watched(Poller(asyncio.get_running_loop()), heard)
    while True:  # fill what the kernel takes, or the writer would be called anyway
        try:
            one.socket.send(b"x" * 65536)
        except BlockingIOError:
            break

    def told() -> None:
        heard.append("told")
        one.poller.remove_reader(one.fd)
        one.poller.remove_writer(one.fd)

    (one.poller.add_reader if interest == "reader" else one.poller.add_writer)(one.fd, told)
    await passed()
    assert heard == []
    one.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    one.peer.close()
    await passed()
    assert heard == ["told"]
    one.close()


@in_loop
async def test_a_socket_that_takes_a_closed_ones_number_is_not_told_what_the_other_was_to_hear() -> None:
    poller = Poller(asyncio.get_running_loop())
    pairs = Watched(poller, []), Watched(poller, [])
    heard: list[str] = []
    new: list[socket.socket] = []
    spare = tcp_pair()

    def replace(closed: Watched) -> None:
        if new:
            return
        closed.close()
        new.append(socket.socket(fileno=os.dup2(spare[0].fileno(), closed.fd)))
        poller.add_reader(closed.fd, lambda: heard.append("mistaken"))

    for one, other in (pairs, reversed(pairs)):
        poller.add_reader(one.fd, partial(replace, other))
        one.peer.send(b"a")
    await passed()
    assert len(new) == 1
    assert heard == []
    poller.remove_reader(new[0].fileno())
    for sock in (*new, *spare):
        sock.close()
    next(one for one in pairs if one.socket.fileno() >= 0).close()


def test_an_exception_in_one_callback_is_told_and_keeps_nothing_from_the_others() -> None:
    told: list[BaseException] = []
    heard: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        poller = Poller(loop)
        bad, good = Watched(poller, heard), Watched(poller, heard)

        def fail() -> None:
            bad.socket.recv(1)
            poller.next_step(stumble)
            poller.next_step(partial(heard.append, "step"))
            raise RuntimeError("as wanted")

        def stumble() -> None:
            raise RuntimeError("in a step")

        poller.add_reader(bad.fd, fail)
        poller.add_reader(good.fd, good.readable)
        bad.peer.send(b"a")
        good.peer.send(b"a")
        await passed()
        bad.close()
        good.close()

    uvloop.run(main())
    assert [str(error) for error in told] == ["as wanted", "in a step"]
    assert heard == ["readable", "step"]


@in_loop
async def test_a_step_is_taken_when_all_that_is_ready_has_come_as_far() -> None:
    heard: list[str] = []
    poller = Poller(asyncio.get_running_loop())
    pair = Watched(poller, heard), Watched(poller, heard)

    def go(one: Watched) -> None:
        one.readable()
        poller.next_step(first)

    def first() -> None:
        heard.append("first")
        poller.next_step(partial(heard.append, "second"))

    for one in pair:
        poller.add_reader(one.fd, partial(go, one))
        one.peer.send(b"a")
    await passed()
    assert heard == ["readable"] * 2 + ["first"] * 2 + ["second"] * 2
    for one in pair:
        one.close()


@in_loop
async def test_a_step_is_taken_at_once_outside_of_sockets_callbacks() -> None:
    heard: list[str] = []
    poller = Poller(asyncio.get_running_loop())
    poller.next_step(partial(heard.append, "step"))
    assert heard == ["step"]
    one = Watched(poller, heard)
    one.poller.add_reader(one.fd, one.readable)
    one.peer.send(b"a")
    await passed()
    poller.next_step(partial(heard.append, "step"))
    assert heard == ["step", "readable", "step"]
    one.close()


@in_loop
async def test_what_is_always_ready_leaves_the_loop_its_turn() -> None:
    poller = Poller(asyncio.get_running_loop())
    heard: list[str] = []
    one = Watched(poller, heard)
    poller.add_writer(one.fd, one.writable)
    before = 0
    for _ in range(3):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(heard) - before <= 2 * ROUNDS * AT_ONCE
        before = len(heard)
    await passed()
    assert len(heard) > before
    one.close()


@in_loop
async def test_more_than_are_told_of_at_once_are_all_told() -> None:
    poller = Poller(asyncio.get_running_loop())
    heard: list[str] = []
    many = [Watched(poller, heard) for _ in range(3 * AT_ONCE)]
    for one in many:
        poller.add_reader(one.fd, one.readable)
        one.peer.send(b"a")
    await passed()
    assert len(heard) == len(many)
    for one in many:
        one.close()
