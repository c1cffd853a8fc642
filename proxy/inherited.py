"""Listening sockets that were open before this process: systemd hands them over (sd_listen_fds(3)).

They belong to the service manager, so that they stay open while one snigate ends and the next starts: who connects
meanwhile waits, and is not refused. All workers accept on the same one, since what queued on a socket of a worker's own
would be reset with that worker's process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from config.addresses import TcpAddress

FIRST = 3  # descriptor, SD_LISTEN_FDS_START
MOST = 1024
_NAMES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Inherited:
    """What was handed over; nothing, for most."""

    def __init__(self, environment: MutableMapping[str, str] | None = None, pid: int | None = None) -> None:
        """Take what is meant for this process out of the environment, so that no other process takes it too."""
        environment = os.environ if environment is None else environment
        given = {name: environment.pop(name, "") for name in _NAMES}
        count, owner = given["LISTEN_FDS"], given["LISTEN_PID"]
        is_ours = owner == str(os.getpid() if pid is None else pid) and count.isascii() and count.isdigit()
        self.strange = 0  # descriptors that are no TCP sockets
        self._sockets = tuple(self._taken(range(FIRST, FIRST + min(int(count), MOST)))) if is_ours else ()

    def at(self, address: TcpAddress) -> socket.socket | None:
        """The socket that is bound to a configured address, if there is one."""
        return next((sock for sock in self._sockets if _is_at(address, sock)), None)

    def left(self, wanted: Iterator[TcpAddress]) -> list[str]:
        """The addresses of sockets that none of these want."""
        found = [self.at(address) for address in wanted]
        return [str(TcpAddress(*sock.getsockname()[:2])) for sock in self._sockets if sock not in found]

    def close(self) -> None:
        """Let go of them; the service manager has them still."""
        for sock in self._sockets:
            sock.close()

    def _taken(self, descriptors: range) -> Iterator[socket.socket]:
        for descriptor in descriptors:
            try:
                sock = socket.socket(fileno=descriptor)
            except OSError:
                self.strange += 1
                continue
            if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
                self.strange += 1
                sock.detach()
                continue
            sock.setblocking(False)
            sock.set_inheritable(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
            yield sock


def _is_every(sock: socket.socket, host: str) -> bool:
    """Whether it takes both families; where the machine has but one, whether it takes that."""
    if sock.family == socket.AF_INET6:
        return host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return host == "0.0.0.0" and not Path("/proc/net/if_inet6").exists()  # noqa: S104 - compared, not bound


def _is_at(address: TcpAddress, sock: socket.socket) -> bool:
    host, port = sock.getsockname()[:2]
    if address.port != port:
        return False
    if address.host is None:
        return _is_every(sock, str(host))
    try:
        targets = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        return False
    return targets[0][4][0] == str(host)
