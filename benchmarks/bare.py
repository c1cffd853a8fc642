"""The least that a TLS proxy in Python can do: how far the limit of snigate's design is, measured beside it.

    python -m benchmarks.bare PORT BACKEND-PORT CERTIFICATE

It makes snigate's calls of OpenSSL, on the same settings, and of the kernel, from one loop over epoll, and nothing
else: it reads no ClientHello, chooses no certificate, counts nothing, limits nothing, waits for no deadline, survives
no error but a reset, and blocks where a peer does not take what it is sent. What it costs, a proxy in Python costs at
the least; what snigate costs beyond it is what snigate does beyond it.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from OpenSSL import SSL

from proxy.bare_socket import accept
from proxy.contexts import front_context
from proxy.direct_engine import DirectEngine
from proxy.layer import Buffer
from proxy.listener import BATCH
from proxy.policy import Policy

_READ = 256 << 10  # bytes read at once

_epoll = select.epoll()
_readers: dict[int, Callable[[], None]] = {}
_buffer = memoryview(bytearray(_READ))


class _Connection:
    """One of them, with its backend's socket."""

    __slots__ = ("backend", "client", "engine", "is_done")

    def __init__(self, front: SSL.Context, certificate: SSL.Context, client: socket.SocketType, backend: int) -> None:
        self.client = client
        self.engine = DirectEngine.serving(front, certificate, client.fileno())
        self.is_done = False
        self.backend = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM)
        self.backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.backend.connect(("127.0.0.1", backend))
        _watch(client, self.client_said)

    def client_said(self) -> None:
        """The handshake's next part, or a part of the stream."""
        engine = self.engine
        stream: Buffer | None
        if engine.direct and not engine.ended and self.backend.fileno() != -1:
            try:
                stream = engine.read()
            except OSError:  # clients that close with a session ticket unread do so by a reset
                stream = None
            size = 0 if stream is None else 1
        else:
            try:
                size = self.client.recv_into(_buffer)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if size and not self.is_done:
                self.shake(_buffer[:size])
                return
            stream = engine.decode(_buffer[:size]) if size and not engine.ended else b""
        if not size:
            _unwatch(self.client)
            if not self.is_done or self.backend.fileno() == -1:
                self.client.close()
            return
        if stream:
            self.backend.sendall(stream)
        while engine.more:
            self.backend.sendall(engine.decode(b""))
        if engine.ended:
            self.backend.shutdown(socket.SHUT_WR)

    def shake(self, said: Buffer) -> None:
        """Go on with the handshake."""
        engine = self.engine
        self.is_done = engine.handshake(said)
        if words := engine.output():
            self.client.send(words)
        if self.is_done:
            _watch(self.backend, self.backend_said)
            if not engine.attach() and (stream := engine.decode(b"")):
                self.backend.sendall(stream)

    def backend_said(self) -> None:
        """A part of the answer, or its end."""
        size, engine = self.backend.recv_into(_buffer), self.engine
        if size:
            if not engine.attach():
                _send_all(self.client, engine.encode(_buffer[:size]))
            elif not engine.write(_buffer[:size]):
                _send_all(self.client, engine.output())
            return
        _unwatch(self.backend)
        self.backend.close()
        with suppress(OSError):
            if words := engine.close():
                self.client.send(words)
        engine.free()
        if self.client.fileno() not in _readers:
            self.client.close()


def _watch(sock: socket.SocketType, callback: Callable[[], None]) -> None:
    _readers[sock.fileno()] = callback
    _epoll.register(sock.fileno(), select.EPOLLIN)


def _unwatch(sock: socket.SocketType) -> None:
    del _readers[sock.fileno()]
    _epoll.unregister(sock.fileno())


def _send_all(sock: socket.SocketType, data: bytes | bytearray | memoryview) -> None:
    """Wait for a non-blocking socket to take everything."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            select.select([], [sock], [])


def main() -> None:
    """Serve until killed."""
    port, backend, file = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    policy = Policy("intermediate")
    front, certificate = front_context(policy), front_context(policy)
    certificate.use_certificate_chain_file(str(file))
    certificate.use_privatekey_file(str(file))
    listening = socket.create_server(("127.0.0.1", port), backlog=4096)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setblocking(False)
    _watch(listening, partial(_accept, listening, front, certificate, backend))
    gc.collect()
    gc.freeze()
    while True:
        for descriptor, _ in _epoll.poll():
            if (reader := _readers.get(descriptor)) is not None:
                reader()


def _accept(listening: socket.socket, front: SSL.Context, certificate: SSL.Context, backend: int) -> None:
    begun = []
    with suppress(BlockingIOError):
        for _ in range(BATCH):
            client, _ = accept(listening, int(socket.AF_INET))
            begun.append(_Connection(front, certificate, client, backend))
    for one in begun:  # step by step for all, as snigate does it: see proxy.poller
        one.client_said()


if __name__ == "__main__":
    main()
