"""Backends: where a connection's plain text goes, and how it is dialled.

A dial is a non-blocking connect and one writer registration: no task, no transport. It may begin while the TLS
handshake still runs, unless the backend is first to be told something that only a finished handshake knows.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from certstore.ranking import Level
from config.addresses import TcpAddress, UnixAddress
from config.model import BackendConfig
from proxy import proxy_protocol
from proxy.served_certificate import algorithms
from proxy.tls_engine import Negotiated

log = logging.getLogger("snigate.backend")

RESOLVE_EVERY = 30.0  # seconds
RETRY_UNIX = 0.02  # seconds between attempts while a Unix socket's queue is full

Endpoint = tuple[str, int]


class Established(NamedTuple):
    """A connection that is going to be relayed: what a backend, the log and the welcome page are told of it.

    Where it passes through, nothing was negotiated here, and no certificate served.
    """

    client: Endpoint
    local: Endpoint
    listener: str
    server_name: str | None
    negotiated: Negotiated | None = None
    fingerprint: str = ""
    matched: str = ""
    level: Level | None = None
    leaf: bytes = b""  # the certificate that was served, DER
    id: str = ""
    client_name: str | None = None  # the common name in the client's certificate, which was verified; "" without one


class Dial(Protocol):
    """A connection to a backend in the making."""

    def cancel(self) -> None:
        """Give up; neither callback is called afterwards."""


class Backend(Protocol):
    """Somewhere to relay to."""

    name: str
    waits_for_handshake: bool

    def dial(
        self,
        loop: asyncio.AbstractEventLoop,
        established: Established | None,
        on_connected: Callable[[socket.socket], None],
        on_failed: Callable[[str], None],
    ) -> Dial:
        """Begin to connect. `on_connected` gets a connected socket, `on_failed` the reason in words; exactly one of
        them is called, never before this returns. `established` is given where `waits_for_handshake`.
        """

    def preamble(self, established: Established) -> bytes:
        """What the backend is sent before the client's own bytes."""


class SocketBackend:
    """A server reached by TCP or a Unix socket, told of the client by PROXY protocol or not at all."""

    def __init__(self, config: BackendConfig, connect_timeout: float) -> None:
        self.name = config.name
        self.server = config.servers[0]
        self.waits_for_handshake = config.client_address != "none"
        self._client_address = config.client_address
        self._connect_timeout = connect_timeout
        self._family = socket.AF_UNIX
        self._target: object = None
        if isinstance(self.server, UnixAddress):
            self._target = str(self.server.path)

    async def resolve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look the server's name up; the last answer is kept when there is no new one."""
        if not isinstance(self.server, TcpAddress):
            return
        host = self.server.host or "localhost"
        try:
            answers = await loop.getaddrinfo(host, self.server.port, type=socket.SOCK_STREAM)
        except OSError as error:
            log.error(
                "backend %s: the name %s does not resolve (%s); correct it or the resolver", self.name, host, error
            )
            return
        family, _, _, _, target = answers[0]
        self._family, self._target = socket.AddressFamily(family), target

    def dial(
        self,
        loop: asyncio.AbstractEventLoop,
        established: Established | None,
        on_connected: Callable[[socket.socket], None],
        on_failed: Callable[[str], None],
    ) -> Dial:
        """See Backend.dial."""
        return SocketDial(loop, self._family, self._target, self._connect_timeout, on_connected, on_failed)

    def preamble(self, established: Established) -> bytes:
        """The PROXY header, or nothing."""
        if self._client_address == "none":
            return b""
        if self._client_address == "proxy-v1":
            return proxy_protocol.encode_v1(established.client, established.local)
        return proxy_protocol.encode_v2(established.client, established.local, _tlvs(established))


class SocketDial:
    """One non-blocking connect."""

    __slots__ = ("_loop", "_on_connected", "_on_failed", "_socket", "_target", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        family: socket.AddressFamily,
        target: object,
        timeout: float,
        on_connected: Callable[[socket.socket], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._target = target
        self._socket: socket.socket | None = None
        if target is None:
            self._timer: asyncio.Handle = loop.call_soon(self._fail, "its name does not resolve")
            return
        try:
            self._socket = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self._timer = loop.call_soon(self._fail, os.strerror(error.errno or 0))
            return
        self._timer = loop.call_later(timeout, self._fail, f"no answer within {timeout:g} s")
        self._connect()

    def cancel(self) -> None:
        """See Dial.cancel."""
        self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        if self._socket is None:
            return
        code = self._socket.connect_ex(self._target)  # type: ignore[arg-type]  # an address of the socket's family
        if code == errno.EAGAIN:  # a Unix socket whose queue is full does not announce when it is not
            self._loop.call_later(RETRY_UNIX, self._connect)
        elif code in (0, errno.EINPROGRESS):
            self._loop.add_writer(self._socket, self._settled)
        else:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._fail, os.strerror(code))

    def _settled(self) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(os.strerror(code))
            return
        sock, self._socket = self._socket, None
        self._timer.cancel()
        self._loop.remove_writer(sock)
        self._on_connected(sock)

    def _fail(self, reason: str) -> None:
        self.cancel()
        self._on_failed(reason)


async def resolve_all(backends: Iterable[SocketBackend]) -> None:
    """Look every backend's name up once."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(one.resolve(loop) for one in backends))


async def keep_resolved(backends: Iterable[SocketBackend]) -> None:
    """Look every backend's name up now and again, for ever."""
    backends = tuple(backends)
    while True:
        await asyncio.sleep(RESOLVE_EVERY)
        await resolve_all(backends)


def _client_certificate(name: str | None, negotiated: Negotiated) -> proxy_protocol.ClientCertificate | None:
    if name is None:
        return None
    return proxy_protocol.ClientCertificate(name or None, on_this_connection=not negotiated.resumed)


def _tlvs(established: Established) -> list[tuple[int, bytes]]:
    """What PROXY v2 says beside the addresses: ALPN, server name, id, and how the TLS is that ended here."""
    negotiated = established.negotiated
    tlvs = []
    if negotiated is not None and negotiated.alpn:
        tlvs.append((proxy_protocol.PP2_TYPE_ALPN, negotiated.alpn.encode()))
    if established.server_name is not None:
        tlvs.append((proxy_protocol.PP2_TYPE_AUTHORITY, established.server_name.encode()))
    tlvs.append((proxy_protocol.PP2_TYPE_UNIQUE_ID, established.id.encode()))
    if negotiated is not None:
        served = algorithms(established.leaf)
        tlvs.append(
            proxy_protocol.ssl_tlv(
                negotiated.version,
                negotiated.cipher,
                _client_certificate(established.client_name, negotiated),
                signature_algorithm=served.signature,
                key_algorithm=served.key,
            )
        )
    return tlvs
