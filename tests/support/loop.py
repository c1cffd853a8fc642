"""Tests inside a worker's kind of event loop, and loopback connections for them."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import uvloop

from proxy import tls_engine
from proxy.leg import reset
from tests.support.engine import MemoryClient

PATIENCE = 20.0  # seconds that a test in a loop may take
BUFFER = 64 << 10  # bytes a loopback socket's kernel buffers hold, about

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test function that is a coroutine, in uvloop. An exception in one of the loop's callbacks fails it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        failures: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
            _scribble(asyncio.get_running_loop())
            async with asyncio.timeout(PATIENCE):
                await test(*args, **kwargs)

        uvloop.run(main())
        assert failures == []

    return run


def _scribble(loop: asyncio.AbstractEventLoop) -> None:
    """Write over the buffers that engines share, now and again: as other connections do in a worker."""
    for buffer in (tls_engine.plaintext, tls_engine._ciphertext):
        buffer[:256] = b"scribble" * 32
    loop.call_later(0.001, _scribble, loop)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """A connection over loopback, both ends not blocking: unlike a socket pair, it knows resets.

    Its buffers are small and do not grow, so that a megabyte surely fills them.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for sock in (one, other):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return one, other


class Peer:
    """The far end of a connection that a test drives: what is received until how it ended."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    async def send(self, data: bytes) -> None:
        """Send everything."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        data = bytearray()
        while len(data) < size:
            chunk = await asyncio.get_running_loop().sock_recv(self.socket, size - len(data))
            assert chunk, f"ended after {len(data)} of {size} bytes"
            data += chunk
        return bytes(data)

    async def some(self) -> bytes:
        """What has come, once there is any; b"" at the end."""
        return await asyncio.get_running_loop().sock_recv(self.socket, 1 << 18)

    async def until(self, end: bytes) -> bytes:
        """What comes up to these bytes, behind which there is nothing yet."""
        data = b""
        while not data.endswith(end):
            chunk = await self.some()
            assert chunk, f"ended after {data!r}"
            data += chunk
        return data

    async def rest(self) -> tuple[bytes, str]:
        """Everything until the end, and how it ended: "FIN" or "RST"."""
        data = bytearray()
        try:
            while chunk := await asyncio.get_running_loop().sock_recv(self.socket, 1 << 18):
                data += chunk
        except ConnectionResetError:
            return bytes(data), "RST"
        return bytes(data), "FIN"

    async def end(self) -> None:
        """End our direction in good order, and go on reading."""
        self.finish()

    def finish(self) -> None:
        """Send FIN, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        reset(self.socket)

    def close(self) -> None:
        """Close."""
        self.socket.close()


class TlsPeer(Peer):
    """A TLS client (or a MemoryServer) at the far end, its handshake done. `send` takes plain text."""

    def __init__(self, sock: socket.socket, client: MemoryClient) -> None:
        super().__init__(sock)
        self.client = client

    async def handshake(self) -> None:
        """Go through the handshake, where it is not done. Raises SSL.Error."""
        while not self.client.handshake():
            await super().send(self.client.output())
            data = await super().some()
            assert data, "ended in the handshake"
            self.client.receive(data)
        await super().send(self.client.output())

    async def some(self) -> bytes:
        """Plain text that has come, once there is any; b"" at the end of TCP."""
        while not (data := self.client.read()):
            raw = await super().some()
            if not raw:
                return b""
            self.client.receive(raw)
        return data

    async def end(self) -> None:
        """End our direction in good order, and go on reading."""
        await self.send_close_notify()
        self.finish()

    async def send(self, data: bytes) -> None:
        """Encrypt and send everything."""
        await super().send(self.client.write(data))

    async def send_close_notify(self) -> None:
        """End our direction of TLS, and not of TCP."""
        await super().send(self.client.close())

    async def receive(self, size: int) -> bytes:
        """Exactly `size` bytes of plain text."""
        data = b""
        while len(data) < size:
            chunk = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 18)
            assert chunk, f"ended after {len(data)} of {size} bytes"
            self.client.receive(chunk)
            data += self.client.read()
        assert len(data) == size
        return data

    async def rest(self) -> tuple[bytes, str]:
        """All plain text until the end, and how that was: "close_notify", "FIN" without one, or "RST"."""
        raw, end = await super().rest()
        self.client.receive(raw)
        data = self.client.read()
        return data, "close_notify" if end == "FIN" and self.client.closed else end
