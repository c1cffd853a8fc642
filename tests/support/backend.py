"""A backend that a test plays itself: it accepts, reads, answers and closes when the test says so."""

from __future__ import annotations

import socket
from types import TracebackType

from tests.support.tls_client import TIMEOUT


class PlayedBackend:
    """Listens on loopback (`port`). What it accepts is the test's to close."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._socket.settimeout(TIMEOUT)
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> PlayedBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()

    def accept(self) -> socket.socket:
        """The next connection."""
        connection, _ = self._socket.accept()
        connection.settimeout(TIMEOUT)
        return connection


def read(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes."""
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        assert chunk, f"ended after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


def rest(sock: socket.socket) -> tuple[bytes, str]:
    """Everything until the end, and how it ended: "FIN" or "RST"."""
    data = bytearray()
    try:
        while chunk := sock.recv(1 << 18):
            data += chunk
    except ConnectionResetError:
        return bytes(data), "RST"
    return bytes(data), "FIN"
