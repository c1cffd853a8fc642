"""Free TCP ports on loopback for servers that a test starts."""

from __future__ import annotations

import os
import socket
from itertools import count

# Below the kernel's own range for outgoing connections, spread by process so that parallel runs do not meet.
_candidates = count(10000 + os.getpid() % 200 * 100)


def free_port() -> int:
    """A port that nothing listened on a moment ago; each call gives another one."""
    for port in _candidates:
        number = 10000 + (port - 10000) % 20000
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", number))
            except OSError:
                continue
        return number
    raise AssertionError("unreachable")
