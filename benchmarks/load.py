"""The load: stdlib ssl in one process, pinned to the core that the servers do not use."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOAD_CORE = 1
CHUNK = bytes(1 << 20)


def context() -> ssl.SSLContext:
    """A client that checks nothing, TLS 1.3."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


def handshakes(port: int, count: int) -> None:
    """`count` connections, one after the other: full handshake, one byte there and back, close."""
    using = context()
    for _ in range(count):
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            using.wrap_socket(raw, server_hostname="b.test") as tls,
        ):
            tls.sendall(b"1")
            tls.recv(1)


def download(port: int, megabytes: int) -> None:
    """One connection that is sent `megabytes`."""
    remaining = megabytes << 20
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context().wrap_socket(raw, server_hostname="b.test") as tls,
    ):
        tls.sendall(b"D" + megabytes.to_bytes(4, "big"))
        while remaining:
            received = len(tls.recv(1 << 16))
            if not received:
                raise ConnectionError(f"{remaining} bytes short")
            remaining -= received


def reachable(port: int, patience: float = 30.0) -> None:
    """Wait until a handshake succeeds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            handshakes(port, 1)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def backend() -> Iterator[int]:
    """A backend in a process of its own, on the load's core: echoes a byte, or sends what "D" and a size ask for."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {LOAD_CORE})
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()
        os.kill(pid, 15)
        os.waitpid(pid, 0)


def _answer(connection: socket.socket) -> None:
    with connection:
        try:
            head = connection.recv(1)
            if head == b"D":
                for _ in range(int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")):
                    connection.sendall(CHUNK)
            else:
                connection.sendall(head)
        except OSError:
            return
