from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from admin.loop_trouble import LoopTrouble


def test_that_nothing_can_be_accepted_is_said_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        loop, trouble = asyncio.get_running_loop(), LoopTrouble()
        error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with socket.socket() as sock:
            for _ in range(100):
                trouble(loop, {"message": "socket.accept() out of system resource", "exception": error, "socket": sock})

    asyncio.run(scenario())
    (said,) = caplog.messages
    assert said.startswith("no further connection can be accepted now (Too many open files)")
    assert caplog.records[0].exc_info is None


def test_anything_else_is_told_as_asyncio_does(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        for _ in range(2):
            LoopTrouble()(asyncio.get_running_loop(), {"message": "it broke", "exception": ValueError("so")})

    asyncio.run(scenario())
    assert caplog.messages == ["it broke"] * 2
    assert caplog.records[0].exc_info is not None
