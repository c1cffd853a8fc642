"""Sockets without what Python's own class puts around the system's: which is a twentieth of a handshake.

`socket.socket` is a Python class on top of `socket.SocketType`. It counts its users, for files that are made from it,
converts numbers to enums, and asks each time for a default time-out. Connections need none of that. Where a library
insists on Python's class, or `with` is wanted, a socket is dressed.
"""

from __future__ import annotations

import socket
from socket import SocketType
from typing import Any


def accept(listening: socket.socket, family: int) -> tuple[SocketType, Any]:
    """A connection that has arrived, non-blocking, and its peer's address. Raises OSError, as `socket.accept`."""
    descriptor, address = listening._accept()  # type: ignore[attr-defined]  # what `accept` itself calls
    sock = SocketType(family, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    return sock, address


def stream(family: int) -> SocketType:
    """A socket that is not connected yet, non-blocking. Raises OSError."""
    return SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def dressed(sock: SocketType) -> socket.socket:
    """The same as one of Python's own; what was given is empty from now on."""
    return socket.socket(fileno=sock.detach())
