"""A pipe for splicing moves what there is, and never waits."""

from __future__ import annotations

import contextlib

import pytest

from proxy.pipe import CAPACITY, Pipe
from tests.support.loop import tcp_pair


def test_bytes_go_from_one_socket_to_another_as_far_as_there_are_any_and_there_is_room() -> None:
    source_far, source = tcp_pair()
    target, target_far = tcp_pair()
    pipe = Pipe()
    with source_far, source, target, target_far:
        with pytest.raises(BlockingIOError):
            pipe.fill(source.fileno())
        source_far.send(b"hello")
        assert (pipe.fill(source.fileno()), len(pipe)) == (5, 5)
        assert (pipe.drain(target.fileno()), len(pipe)) == (5, 0)
        assert target_far.recv(10) == b"hello"
        source_far.close()
        assert pipe.fill(source.fileno()) == 0
    pipe.close()


def test_a_socket_that_takes_no_more_leaves_the_rest_in_the_pipe() -> None:
    source_far, source = tcp_pair()
    target, target_far = tcp_pair()
    pipe = Pipe()
    with source_far, source, target, target_far:
        sent = moved = 0
        while not len(pipe):
            sent += source_far.send(bytes(16 << 10))
            pipe.fill(source.fileno())
            with contextlib.suppress(BlockingIOError):
                while len(pipe):
                    moved += pipe.drain(target.fileno())
        assert len(pipe) == sent - moved
        assert moved < sent < 64 * CAPACITY
    pipe.close()
