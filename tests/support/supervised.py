"""A program for tests of the supervisor: it supervises children that do what a test asks for.

    python -m tests.support.supervised DIRECTORY

DIRECTORY/orders.json says, anew for each plan, what a plan is to be like (see `Orders`). Each child writes
<role><number>.pid and .sockets (inodes of the sockets it holds) into DIRECTORY, control also every message it hears to
control.log; when a file ask.<name> appears there, control asks for a reload and writes the outcome into it. The program
prints what `on_ready` is called with, and writes the number of each worker that has ended to ended.log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from proxy.channel import Channel
from proxy.child import ChildSpec
from proxy.generation import Plan, PlanError, identity
from proxy.supervisor import Supervisor


@dataclass
class Orders:
    """What a plan is like. `worker`: "good", "stubborn" (does not end when told to drain), "busy" (ends when a file
    `release` is there), "dying" (worker 0 ends at once), "deaf" (is never prepared) or "shy" (does not accept)."""

    worker: str = "good"
    workers: int = 2
    keeper: str = "a"  # another one: another keeper
    control: str = "a"
    drain: float = 0.2
    retire: float = 60.0
    patience: float = 60.0  # of the first plan alone, like what follows
    renewal: float = 3600.0
    refused: list[str] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)

    def write(self, directory: Path) -> None:
        temporary = directory / "orders.new"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.rename(directory / "orders.json")

    @classmethod
    def read(cls, directory: Path) -> Orders:
        return cls(**json.loads((directory / "orders.json").read_text()))


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


def note(directory: Path, name: str) -> None:
    """Write down that a child runs."""
    (directory / f"{name}.sockets").write_text(json.dumps(held_sockets()))
    (directory / f"{name}.pid").write_text(str(os.getpid()))


def keep(directory: Path, number: int, channel: Channel) -> None:
    note(directory, "keeper0")
    channel.say({"ready": True, "who": "keeper0"})

    async def main() -> None:
        async for _ in channel.listen():
            pass

    asyncio.run(main())


def control(directory: Path, number: int, channel: Channel) -> None:
    note(directory, "control0")
    channel.say({"ready": True})
    asked: list[Path] = []

    def ask() -> None:
        for path in directory.glob("ask.*"):
            if path not in asked and not path.read_text():
                asked.append(path)
                channel.say({"reload": len(asked) - 1})
        asyncio.get_running_loop().call_later(0.01, ask)

    async def main() -> None:
        ask()
        async for message in channel.listen():
            if "end" in message:
                break
            if "reloaded" in message:
                asked[message["reloaded"]["request"]].write_text(json.dumps(message["reloaded"]))
            else:
                with (directory / "control.log").open("a") as log:
                    log.write(json.dumps(message) + "\n")

    asyncio.run(main())


def work(directory: Path, kind: str, number: int, channel: Channel) -> None:
    if kind == "dying" and number % 2 == 0:
        return
    name = f"worker{number}"
    note(directory, name)

    async def main() -> None:
        if kind != "deaf":
            channel.say({"prepared": True})
        async for message in channel.listen():
            if "accept" in message and kind != "shy":
                channel.say({"ready": True, "who": name})
            if "drain" in message and kind != "stubborn":
                while kind == "busy" and not (directory / "release").exists():
                    await asyncio.sleep(0.01)
                return

    asyncio.run(main())


class Planner:
    """Makes plans as ordered; sockets are kept as long as there are workers for them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keepers: dict[str, ChildSpec] = {}
        self._controls: dict[str, ChildSpec] = {}
        self._sockets: list[socket.socket] = []

    def plan(self) -> Plan:
        orders, directory = Orders.read(self._directory), self._directory
        if orders.refused:
            raise PlanError(tuple(orders.refused))
        while len(self._sockets) < orders.workers:
            self._sockets.append(socket.create_server(("127.0.0.1", 0)))
        self._sockets, sockets = self._sockets[: orders.workers], tuple(self._sockets[: orders.workers])
        inodes = [str(Path(f"/proc/self/fd/{sock.fileno()}").readlink()) for sock in sockets]
        (directory / "listening").write_text(json.dumps(inodes))
        return Plan(
            keeper=self._keepers.setdefault(orders.keeper, ChildSpec("keeper", partial(keep, directory))),
            control=self._controls.setdefault(orders.control, ChildSpec("control", partial(control, directory))),
            workers=tuple(ChildSpec("worker", partial(work, directory, orders.worker), (sock,)) for sock in sockets),
            sockets=sockets,
            listening=sockets,
            drain=orders.drain,
            retire=orders.retire,
            renewal=orders.renewal,
            watched={Path(name): identity(Path(name)) for name in orders.watched},
        )

    def next(self, _: Plan, reread: bool) -> Plan:
        logging.info("planned anew, configuration read again: %s", reread)
        return self.plan()


def main(directory: Path) -> int:
    """Supervise what the orders say."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    orders, planner = Orders.read(directory), Planner(directory)

    def ready(said: dict[str, Any]) -> None:
        print(json.dumps(said), flush=True)

    def ended(number: int) -> None:
        with (directory / "ended.log").open("a") as log:
            log.write(f"{number}\n")

    return Supervisor(planner.plan(), planner.next, ready, ended, orders.patience).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
