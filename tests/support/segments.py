"""Segments that are read one by one: each is sent when the program at the other end has read what came before it.

How much of what arrived at a socket of another process is unread, the kernel tells by sock_diag(7).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from tests.support.tls_client import TIMEOUT

NETLINK_SOCK_DIAG = 4
_ABOUT_ONE = 20, 1  # SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST
_ANY_STATE = _ANY_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_ADDRESSES = struct.Struct(">HH4s12x4s12x")
_UNREAD = struct.Struct("=I")
_UNREAD_AT = _HEADER.size + 4 + 48 + 4  # behind an inet_diag_msg's state, its addresses and its timer


def send_apart(segments: Mapping[socket.socket, Sequence[bytes]]) -> None:
    """Send on each of these connections over loopback its segments, on all of them at the same time.

    One that is refused meanwhile is left as it is: its answer is there to be read.
    """
    for sock in segments:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        for turn in zip_longest(*segments.values()):
            sent = [(sock, segment) for sock, segment in zip(segments, turn, strict=True) if segment is not None]
            for sock, segment in sent:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(segment)
            deadline = time.monotonic() + TIMEOUT
            for sock, _ in sent:
                while unread(kernel, sock):
                    assert time.monotonic() < deadline, "what was sent is not read"


def unread(kernel: socket.socket, sock: socket.socket) -> int:
    """How many bytes the peer of an IPv4 connection on this machine has not read yet; 0 where it is gone."""
    try:
        (host, port), (peer_host, peer_port) = sock.getsockname(), sock.getpeername()
    except OSError:
        return 0
    request = (
        _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY_STATE)
        + _ADDRESSES.pack(peer_port, port, socket.inet_aton(peer_host), socket.inet_aton(host))
        + struct.pack("=III", 0, _ANY_COOKIE, _ANY_COOKIE)
    )
    kernel.send(_HEADER.pack(_HEADER.size + len(request), *_ABOUT_ONE, 0, 0) + request)
    answer = kernel.recv(1 << 12)
    if _HEADER.unpack_from(answer)[1] != _ABOUT_ONE[0]:
        return 0
    size: int = _UNREAD.unpack_from(answer, _UNREAD_AT)[0]
    return size
