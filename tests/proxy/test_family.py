from __future__ import annotations

import errno
import os
import selectors
import socket
from pathlib import Path

import pytest

from proxy.child import Child, ChildSpec
from proxy.family import Family


def family() -> Family:
    return Family(lambda *_: None, lambda _: None, lambda: None)


def test_a_process_that_cannot_be_forked_is_tried_again_and_nothing_is_left_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_room)
    one, child = family(), Child(ChildSpec("worker", lambda *_: None), 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert not one.start(child)
    assert child.pid == 0
    assert child.start_at > 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert "worker 0 cannot be started (Resource temporarily unavailable)" in caplog.text
    one.selector.close()


@pytest.mark.parametrize("said", [b'{"reload": null}\n', b"[" * 100_000 + b"\n", b"nonsense\n", b"1e999\n"])
def test_a_child_that_says_what_makes_no_sense_loses_its_channel_and_nobody_else_notices(said: bytes) -> None:
    def hear(_: Child, message: dict[str, object]) -> None:
        int(message["reload"])  # type: ignore[call-overload]

    child = Child(ChildSpec("worker", lambda *_: None), 1)
    near, far = socket.socketpair()
    near.setblocking(False)
    with selectors.DefaultSelector() as selector, far:
        child._channel, child._selector = near, selector
        selector.register(near, selectors.EVENT_READ)
        far.sendall(said)
        while child._channel is not None:
            child._on_channel(selectors.EVENT_READ, hear)
    assert near.fileno() == -1
