"""A bad line between two programs: a TCP relay that cuts anew what it carries, delays it, and stalls.

A relay cannot lose, double or reorder anything: TCP mends that before a program sees it. What a program does see of a
bad network is here: segments of other sizes than were sent, pauses between them, directions that run at different
paces, and windows that close, since little is held. Ends are passed on as they are: FIN as FIN once all before it is
through, a reset as a reset.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator

from proxy.leg import reset

HELD = 32 << 10  # bytes the kernel holds for each direction, about
SIZES = (1, 9, 600, 1460, 9000, HELD)  # bytes; a segment's is between two neighbours
HICCUP, STALL = (0.1, 0.01), (0.005, 0.3)  # how likely before a segment, and for how long at most (seconds)


class BadLine:
    """Listens on loopback (`port`), and carries each connection on to `target`. `seed` settles its whims."""

    def __init__(self, target: int, seed: int) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._socket.setblocking(False)
        _hold_little(self._socket)  # so will what is accepted
        self.port: int = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Carry, until cancelled."""
        loop = asyncio.get_running_loop()
        with self._socket:
            async with asyncio.TaskGroup() as group:
                while True:
                    near, _ = await loop.sock_accept(self._socket)
                    group.create_task(self._carry(near))

    async def _carry(self, near: socket.socket) -> None:
        far = socket.socket()
        with near, far:
            far.setblocking(False)
            for sock in (near, far):
                _hold_little(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self._target))
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(near, far))
                    both.create_task(self._pass_on(far, near))
            except* OSError:
                reset(near)
                reset(far)

    async def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, HELD):
            for segment in self._cut(data):
                await self._linger()
                await loop.sock_sendall(sink, segment)
        # The kernel tells of a reset once: where the other direction was told, this one only seems to have ended.
        await asyncio.sleep(HICCUP[1])
        sink.shutdown(socket.SHUT_WR)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            place = self._random.randrange(1, len(SIZES))
            size = self._random.randint(SIZES[place - 1], SIZES[place])
            yield data[at : at + size]
            at += size

    async def _linger(self) -> None:
        for likely, most in (HICCUP, STALL):
            if self._random.random() < likely:
                await asyncio.sleep(self._random.uniform(0, most))


def _hold_little(sock: socket.socket) -> None:
    for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, buffer, HELD)
