"""Listening sockets: one for each address and slot, owned by the supervisor.

With SO_REUSEPORT the kernel spreads connections over the sockets of an address. The supervisor keeps every one open, so
what queues on a dead worker's socket waits for the next worker. Because SO_REUSEPORT would also let a second instance
bind the same address and quietly take half of the traffic, each address is first probed without it.

When a configuration follows another, sockets are known by configured address and slot, and those still wanted are kept.
A slot is never closed while its address is wanted, since that would reset what queues on it: where there are fewer
workers than slots, workers have several. A socket that is new is bound, but does not listen yet.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from certstore.remedy import remedy
from certstore.unix_path import socket_address
from config.addresses import TcpAddress
from config.model import Config
from proxy.inherited import Inherited
from proxy.privileges import User

BACKLOG = 4096
_ANOTHER = "give this listener another address"

Share = Mapping[str, Sequence[socket.socket]]  # what one worker accepts on: sockets by listener


class BindError(Exception):
    """Addresses cannot be bound; a line of the message names the listener, the address and what to do."""


@dataclass(frozen=True)
class Bound:
    """An address of a listener, and its socket for each slot."""

    listener: str
    address: TcpAddress  # as configured
    place: int  # among equal addresses; only port 0 may be given more than once
    slots: tuple[socket.socket, ...]


def bind_listeners(
    config: Config, workers: int, before: Sequence[Bound] = (), inherited: Inherited | None = None
) -> tuple[Bound, ...]:
    """Every listener's addresses, with at least one slot for each worker; what `before` has of them is kept.

    A socket that was inherited is every worker's slot.

    Raises BindError with a line for each address that cannot be bound, and nothing new left bound.
    """
    known = {(one.address, one.place): one.slots for one in before}
    ours = sockets_of(before)
    bound: list[Bound] = []
    problems: list[str] = []
    with contextlib.ExitStack() as undo:
        for name, address, place in _wanted(config):
            kept = known.get((address, place), ())
            if inherited is not None and not place and (handed := inherited.at(address)) is not None:
                shared = kept[0] if kept else handed.dup()
                bound.append(Bound(name, address, place, (shared,) * workers))
                continue
            try:
                fresh = _bind(address, workers - len(kept), kept, ours)
            except OSError as error:
                problems.append(f"listener {name}: cannot bind {address}: {_advice(error, _ANOTHER)}")
                continue
            for sock in fresh:
                undo.callback(sock.close)
            bound.append(Bound(name, address, place, (*kept, *fresh)))
        if problems:
            raise BindError("\n".join(problems))
        undo.pop_all()
    return tuple(bound)


def bind_tcp(name: str, address: TcpAddress, ours: Iterable[socket.socket] = ()) -> socket.socket:
    """One socket that belongs to this instance alone, and does not listen yet. Raises BindError, calling it `name`.

    `ours` are sockets of this instance whose addresses may cover this one.
    """
    try:
        return _bind(address, 1, (), ours)[0]
    except OSError as error:
        raise BindError(f"{name}: cannot bind {address}: {_advice(error, f'set {name} to another address')}") from error


def sockets_of(bound: Iterable[Bound]) -> tuple[socket.socket, ...]:
    """Every socket of some addresses, once."""
    return tuple(dict.fromkeys(sock for one in bound for sock in one.slots))


def share_of(worker: int, workers: int, bound: Iterable[Bound]) -> Share:
    """The sockets of one worker of so many: of each address the slot with its place, and every so manieth after it."""
    share: dict[str, list[socket.socket]] = {}
    for one in bound:
        share.setdefault(one.listener, []).extend(one.slots[worker::workers])
    return share


def covers(address: TcpAddress, sock: socket.socket) -> bool:
    """Whether a socket is bound to the same port, of the same or of every host."""
    host, port = sock.getsockname()[:2]
    if address.port != port:
        return False
    return address.host is None or any(_is_every(one) for one in (host, address.host)) or _target(address)[1] == host


def bind_unix(path: Path, owner: User | None = None) -> socket.socket:
    """A listening Unix socket at `path` that only its owner can reach; one left over from before is replaced.

    It belongs to who runs this, or to `owner`. Raises BindError.
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
        if owner is not None:
            owner.own(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        advice = remedy(error, "correct the state directory")
        raise BindError(f"{path}: cannot bind ({os.strerror(error.errno or 0)}); {advice}") from error
    return sock


def bound_addresses(bound: Iterable[Bound]) -> dict[str, list[str]]:
    """The addresses of each listener as the kernel has them (a port 0 is then a real one)."""
    found: dict[str, list[str]] = {}
    for one in bound:
        found.setdefault(one.listener, []).append(str(TcpAddress(*one.slots[0].getsockname()[:2])))
    return found


def _wanted(config: Config) -> Iterable[tuple[str, TcpAddress, int]]:
    seen: dict[TcpAddress, int] = {}
    for listener in config.listeners:
        for address in listener.bind:
            place = seen[address] = seen.get(address, -1) + 1
            yield listener.name, address, place


def _bind(
    address: TcpAddress, count: int, kept: Sequence[socket.socket], ours: Iterable[socket.socket]
) -> list[socket.socket]:
    """So many sockets more for an address, of which `kept` are bound already. Raises OSError, with nothing left."""
    if address.port and not kept and not any(covers(address, sock) for sock in ours):
        with _bound(address, reuse_port=False) as probe:
            probe.listen()  # only a socket that listens is in the way of others with SO_REUSEADDR
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            first = [*kept, *made][:1]
            port = first[0].getsockname()[1] if first else address.port
            made.append(_bound(TcpAddress(address.host, port), reuse_port=True))
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _bound(address: TcpAddress, *, reuse_port: bool) -> socket.socket:
    """A bound, non-blocking socket. All addresses means IPv6 and IPv4 in one, or IPv4 where there is no IPv6."""
    if address.host is None:
        try:
            return _bound_to(socket.AF_INET6, "::", address.port, reuse_port, dual=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return _bound_to(socket.AF_INET, "0.0.0.0", address.port, reuse_port)  # noqa: S104 - was asked for
    family, host = _target(address)
    return _bound_to(family, host, address.port, reuse_port)


def _target(address: TcpAddress) -> tuple[socket.AddressFamily, str]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, target = found[0]
    return socket.AddressFamily(family), str(target[0])


def _is_every(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _bound_to(
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
