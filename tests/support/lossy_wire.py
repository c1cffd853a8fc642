"""Streams through snigate over a wire that loses, doubles and reorders packets: `python -m tests.support.lossy_wire`.

To be run by hand, as root on Linux; the suite, which has to run anywhere, has tests.support.bad_line instead. Snigate
is in one network namespace, its clients and its backend are in another, and a TUN device in each is an end of the wire
between them: so every packet of both legs goes through `carry`. It is what `tc netem` does, for kernels without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.support.client_hellos import from_pyopenssl
from tests.support.engine import MemoryClient, client_context
from tests.support.loop import Peer, TlsPeer
from tests.support.snigate import PROGRAM

LOSS, DOUBLED, LATE = 0.02, 0.01, 0.05  # of all packets
USUAL, DELAY = 0.001, 0.005  # seconds at most that a packet takes, and how much longer one that is late does
SERVER, CLIENT = "198.18.0.1", "198.18.0.2"  # RFC 2544's network for such tests
STREAMS, SIZE = 6, 3 << 20  # of each kind, and bytes each way of each
PATIENCE = 120.0  # seconds

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

CONFIGURATION = f"""
[server]
workers = 2
state_directory = "state"
handshake_timeout = "1m"
[[listeners]]
name = "web"
bind = ["{SERVER}:443"]
backend = "{CLIENT}:80"
[[listeners.routes]]
hosts = ["through.example"]
action = "passthrough"
backend = "{CLIENT}:80"
"""

Result = TypeVar("Result")
_libc = ctypes.CDLL(None, use_errno=True)


def elsewhere(work: Callable[[], Result], namespace: int | None = None) -> Result:
    """Do this in another network namespace, by default a new one: threads have their own."""

    def enter() -> Result:
        failed = _libc.unshare(CLONE_NEWNET) if namespace is None else _libc.setns(namespace, CLONE_NEWNET)
        if failed:
            raise OSError(ctypes.get_errno(), "no network namespace (are you root?)")
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


def end_of_wire(own: str, other: str) -> tuple[int, int]:
    """A TUN device with these addresses in this thread's namespace, and the namespace, as descriptors."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"wire", IFF_TUN | IFF_NO_PI))
    for arguments in ("link set lo up", f"addr add {own}/32 peer {other} dev wire", "link set wire up"):
        subprocess.run(["ip", *arguments.split()], check=True)
    return device, os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)


def carry(one: int, other: int, stop: threading.Event) -> dict[str, int]:
    """Be the wire between two TUN devices until the event; how many packets met with what."""
    whims, on_the_way, number = random.Random(1), list[tuple[float, int, int, bytes]](), 0
    count = dict.fromkeys(("carried", "lost", "doubled", "late"), 0)
    while not stop.is_set():
        wait = min(0.1, max(0.0, on_the_way[0][0] - time.monotonic())) if on_the_way else 0.1
        for device in select.select([one, other], [], [], wait)[0]:
            with contextlib.suppress(BlockingIOError):
                while packet := os.read(device, 2048):
                    lost, doubled = whims.random() < LOSS, whims.random() < DOUBLED
                    count["carried"], count["lost"] = count["carried"] + 1, count["lost"] + lost
                    for _ in range(0 if lost else 1 + doubled):
                        late = whims.random() < LATE
                        due = time.monotonic() + whims.uniform(0, USUAL) + late * DELAY
                        number, count["late"] = number + 1, count["late"] + late
                        heapq.heappush(on_the_way, (due, number, one if device == other else other, packet))
                    count["doubled"] += doubled and not lost
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(on_the_way)
            os.write(device, packet)
    return count


@contextlib.contextmanager
def snigate(namespace: int) -> Iterator[None]:
    """A snigate in that namespace."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "snigate.toml"
        file.write_text(CONFIGURATION)
        enter = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{namespace}"]
        with subprocess.Popen([*enter, PROGRAM, "serve", "--config", file], cwd=directory) as process:
            try:
                yield
            finally:
                process.terminate()


async def echo(sock: socket.socket) -> None:
    """A connection's backend."""
    with sock:
        while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            await asyncio.get_running_loop().sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)


async def accept(listening: socket.socket) -> None:
    """The backend, until cancelled."""
    async with asyncio.TaskGroup() as group:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            group.create_task(echo(sock))


async def stream(name: str, data: bytes) -> str:
    """What comes of a stream that is sent and comes back at the same time."""
    peer = await connected()
    if name.startswith("through"):
        data = from_pyopenssl(name.encode()) + data
    else:
        peer = TlsPeer(peer.socket, MemoryClient(client_context(), name.encode()))
        await peer.handshake()

    async def send() -> None:
        await peer.send(data)
        await peer.end()

    _, (received, end) = await asyncio.gather(send(), peer.rest())
    peer.close()
    same = hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    return f"{name}: {len(received)} bytes, {'identical' if same else 'DIFFERENT'}, then {end}"


async def connected() -> Peer:
    """A connection to snigate, once it listens."""
    while True:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (SERVER, 443))
        except ConnectionRefusedError:
            sock.close()
            await asyncio.sleep(0.1)
        else:
            return Peer(sock)


async def streams() -> list[str]:
    """What comes of all streams, at the same time."""
    with socket.create_server((CLIENT, 80), backlog=64) as listening:
        listening.setblocking(False)
        backend = asyncio.create_task(accept(listening))
        kinds = ("terminate.example", "through.example") * STREAMS
        work = (stream(name, random.Random(place).randbytes(SIZE)) for place, name in enumerate(kinds))
        results = await asyncio.wait_for(asyncio.gather(*work), PATIENCE)
        backend.cancel()
        return results


def main() -> None:
    """Do it, and say what came of it."""
    servers, at_server = elsewhere(lambda: end_of_wire(SERVER, CLIENT))
    clients, at_client = elsewhere(lambda: end_of_wire(CLIENT, SERVER))
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        wire = thread.submit(carry, servers, clients, stop)
        try:
            with snigate(at_server):
                results = elsewhere(lambda: asyncio.run(streams()), at_client)
        finally:
            stop.set()
        print(*results, f"the wire: {wire.result()}", sep="\n")
    sys.exit(any("DIFFERENT" in result for result in results))


if __name__ == "__main__":
    main()
