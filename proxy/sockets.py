"""Listening sockets: one for each address and worker slot, owned by the supervisor.

With SO_REUSEPORT the kernel spreads connections over the sockets of an address. The supervisor keeps every one open, so
what queues on a dead worker's socket waits for the next worker. Because SO_REUSEPORT would also let a second instance
bind the same address and quietly take half of the traffic, each address is first probed without it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from certstore.unix_path import socket_address
from config.addresses import TcpAddress
from config.model import Config

BACKLOG = 4096


class BindError(Exception):
    """An address cannot be bound; the message names the listener, the address and what to do."""


@dataclass
class Slot:
    """What one worker listens on: sockets by listener. A worker that is replaced leaves its slot to the next."""

    number: int
    sockets: dict[str, list[socket.socket]] = field(default_factory=dict)

    def close(self) -> None:
        """Close this process's copies."""
        for sockets in self.sockets.values():
            for sock in sockets:
                sock.close()


def bind_slots(config: Config, workers: int) -> list[Slot]:
    """Bind every listener's addresses once for each of `workers` slots. Raises BindError, with nothing left bound."""
    slots = [Slot(number) for number in range(workers)]
    with contextlib.ExitStack() as undo:
        for slot in slots:
            undo.callback(slot.close)
        for listener in config.listeners:
            for address in listener.bind:
                for slot, sock in zip(slots, _bind(listener.name, address, workers), strict=True):
                    slot.sockets.setdefault(listener.name, []).append(sock)
        undo.pop_all()
    return slots


def bind_tcp(name: str, address: TcpAddress) -> socket.socket:
    """One listening socket that belongs to this instance alone. Raises BindError, calling it `name`."""
    try:
        return _listen(address, reuse_port=False)
    except OSError as error:
        raise BindError(f"{name}: cannot bind {address}: {_advice(error, f'set {name} to another address')}") from error


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket at `path` that only its owner can reach; one left over from before is replaced.

    Raises BindError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with socket_address(path) as short:
                sock.bind(short)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise BindError(
            f"{path}: cannot bind ({os.strerror(error.errno or 0)}); correct the state directory"
        ) from error
    return sock


def bound_addresses(slot: Slot) -> dict[str, list[str]]:
    """The addresses of each listener as the kernel has them (a port 0 is then a real one)."""
    return {
        name: [str(TcpAddress(*sock.getsockname()[:2])) for sock in sockets] for name, sockets in slot.sockets.items()
    }


def _bind(listener: str, address: TcpAddress, count: int) -> Iterable[socket.socket]:
    try:
        if address.port:
            _listen(address, reuse_port=False).close()
        first = _listen(address, reuse_port=True)
        same = TcpAddress(address.host, first.getsockname()[1])
        return [first, *(_listen(same, reuse_port=True) for _ in range(count - 1))]
    except OSError as error:
        advice = _advice(error, "give this listener another address")
        raise BindError(f"listener {listener}: cannot bind {address}: {advice}") from error


def _listen(address: TcpAddress, *, reuse_port: bool) -> socket.socket:
    """One listening, non-blocking socket. All addresses means IPv6 and IPv4 in one, or IPv4 where there is no IPv6."""
    host = address.host
    if host is None:
        try:
            return _listen_on(socket.AF_INET6, "::", address.port, reuse_port, dual=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return _listen_on(socket.AF_INET, "0.0.0.0", address.port, reuse_port)  # noqa: S104 - was asked for
    family, _, _, _, target = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    return _listen_on(socket.AddressFamily(family), str(target[0]), address.port, reuse_port)


def _listen_on(
    family: socket.AddressFamily, host: str, port: int, reuse_port: bool, *, dual: bool = False
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _advice(error: OSError, otherwise: str) -> str:
    """What went wrong and what to do; `otherwise` is the phrase for choosing another address."""
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved ({error.strerror}); {otherwise}"
    advice = {
        errno.EADDRINUSE: f"another program listens there; stop it, or {otherwise}",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: f"this machine does not have that address; {otherwise}",
    }.get(error.errno or 0, otherwise)
    return f"{os.strerror(error.errno or 0)}; {advice}"
