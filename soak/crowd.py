"""A process with clients of one sort: `python -m soak.crowd`, what to do as JSON on standard input.

Each thread is one client after another. What they saw is written to a file, a Visit a line.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from functools import partial
from pathlib import Path

import msgspec

from soak.caller import Caller, Surprise
from soak.courteous import BRISK, LASTING, held
from soak.kinds import Kind, Make
from soak.plan import Crowd
from soak.record import Visit
from soak.rude import RUDE

SORTS = {"brisk": BRISK, "lasting": LASTING, "rude": RUDE}


class Orders(msgspec.Struct):
    """What a process is told."""

    crowd: Crowd
    rate: float  # connections a second
    begin: float  # Unix seconds, as all moments
    end: float
    ports: dict[str, int]
    roots: dict[str, str]
    file: str


class Gathering:
    """The crowd's threads."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._numbers = itertools.count()
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        self._file = Path(orders.file).open("wb")  # noqa: SIM115 - it outlives the call

    def run(self) -> None:
        """Until the end."""
        run = self._hold if self._orders.crowd.sort == "held" else self._visit_again_and_again
        threads = [threading.Thread(target=run, args=(place,)) for place in range(self._orders.crowd.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._file.close()

    def _visit_again_and_again(self, place: int) -> None:
        orders, chance = self._orders, random.Random(f"{self._orders.crowd.name} {place}")
        caller = Caller(orders.ports, orders.roots, chance)
        kinds = SORTS[orders.crowd.sort]
        weights = [kind.weight for kind in kinds]
        while True:
            due = orders.begin + next(self._numbers) / orders.rate
            if max(due, time.time()) >= orders.end:
                return
            time.sleep(max(0.0, due - time.time()))
            kind: Kind = chance.choices(kinds, weights)[0]
            self._make(kind.make, caller, kind.visit(caller))

    def _hold(self, place: int) -> None:
        orders = self._orders
        caller = Caller(orders.ports, orders.roots, random.Random(place))
        while time.time() < orders.end - 1:
            self._make(partial(held, end=orders.end), caller, Visit("held", "web", "served"))

    def _make(self, make: Make, caller: Caller, visit: Visit) -> None:
        visit.began = time.time()
        try:
            make(caller, visit)
        except (OSError, Surprise) as error:
            visit.error = f"{error!r}"
        visit.ended = time.time()
        if self._orders.crowd.sort != "brisk" or visit.error:
            visit.handshake = None
        line = self._encoder.encode(visit) + b"\n"
        with self._lock:
            self._file.write(line)


if __name__ == "__main__":
    Gathering(msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)).run()
