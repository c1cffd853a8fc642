from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from config.addresses import TcpAddress
from proxy import inherited as module
from proxy.inherited import Inherited


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Three descriptors in a row, the second of which is no TCP socket; the ports of the others."""
    first, last = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    start = 200
    pipe = os.pipe()
    for place, descriptor in enumerate((first.fileno(), pipe[0], last.fileno())):
        os.dup2(descriptor, start + place)
    ports = first.getsockname()[1], last.getsockname()[1]
    for one in (first, last):
        one.close()
    for descriptor in pipe:
        os.close(descriptor)
    monkeypatch.setattr(module, "FIRST", start)
    yield ports
    for place in range(3):
        with contextlib.suppress(OSError):
            os.close(start + place)


def test_sockets_are_found_by_their_addresses_and_what_is_none_is_counted(handed: tuple[int, int]) -> None:
    environment = {"LISTEN_FDS": "3", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a:b:c", "HOME": "/"}
    found = Inherited(environment)
    assert environment == {"HOME": "/"}, "a process that is started from here must not take them too"
    assert found.strange == 1
    at = found.at(TcpAddress("127.0.0.1", handed[0]))
    assert at is not None
    assert at.getsockname()[1] == handed[0]
    assert not at.getblocking()
    assert found.at(TcpAddress(None, handed[0])) is None, "every address is another than one"
    assert found.at(TcpAddress("localhost", handed[1])) is not None
    assert found.left(iter([TcpAddress("127.0.0.1", handed[0])])) == [f"127.0.0.1:{handed[1]}"]
    found.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "1"},
    ],
)
def test_what_is_not_meant_for_this_process_is_left_alone(handed: tuple[int, int], environment: dict[str, str]) -> None:
    assert Inherited(environment).at(TcpAddress("127.0.0.1", handed[0])) is None
    os.fstat(200)
