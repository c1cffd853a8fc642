"""A program for tests of the supervisor: it supervises children that do what a test asks for.

    python -m tests.support.supervised DIRECTORY DRAIN WORKER

Each child writes <role><number>.pid and .sockets (inodes of the sockets it holds) into DIRECTORY, control also every
message it hears to control.log. WORKER says what a worker is like: "good", "stubborn" (does not end when told to
drain) or "dying" (ends at once). The program prints what `on_ready` is called with.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from proxy.channel import Channel
from proxy.supervisor import ChildSpec, Supervisor


def held_sockets() -> list[str]:
    """Inodes of this process's sockets, as /proc names them."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            names.append(target)
    return sorted(names)


def child(directory: Path, name: str, on_message: Callable[[dict[str, object]], bool], channel: Channel) -> None:
    """Be a child until a message says to end (`on_message` is true), or the supervisor is gone."""
    (directory / f"{name}.sockets").write_text(json.dumps(held_sockets()))
    (directory / f"{name}.pid").write_text(str(os.getpid()))
    channel.say({"ready": True, "who": name})

    async def main() -> None:
        async for message in channel.listen():
            if on_message(message):
                return

    asyncio.run(main())


def note(path: Path, message: dict[str, object]) -> bool:
    """Write a message down, and go on."""
    with path.open("a") as log:
        log.write(json.dumps(message) + "\n")
    return False


def main(directory: Path, drain: float, worker: str) -> int:
    """Supervise a keeper, a control and two workers."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]

    def work(number: int, channel: Channel) -> None:
        if worker == "dying" and number == 0:
            return
        child(directory, f"worker{number}", lambda message: worker != "stubborn" and "drain" in message, channel)

    specs = [
        ChildSpec("keeper", 0, partial(child, directory, "keeper0", lambda _: False)),
        ChildSpec("control", 0, partial(child, directory, "control0", partial(note, directory / "control.log"))),
        *(ChildSpec("worker", number, partial(work, number), (listening[number],)) for number in range(2)),
    ]
    inodes = [str(Path(f"/proc/self/fd/{sock.fileno()}").readlink()) for sock in listening]
    (directory / "listening").write_text(json.dumps(inodes))
    return Supervisor(specs, listening, drain, lambda said: print(json.dumps(said), flush=True)).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
