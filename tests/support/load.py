"""Clients that handshake, send, and check what comes back, several at a time and without end; and what they lose."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import NamedTuple

from tests.support.snigate import wait_for
from tests.support.tls_client import connect, context

CLIENTS = 6  # threads; each is one client after another
ROUNDS = 3  # messages in a connection
LARGEST = 40_000  # bytes of a message
PAUSE = 0.02  # seconds between two connections of a thread


class Loss(NamedTuple):
    """A connection that did not end as it should have."""

    began: float  # Unix seconds, before it was asked for
    ended: float
    what: str


class Load:
    """Talks to an echo behind `port` until the end of the block; what is not echoed whole, and ended cleanly, is lost.

    With `authority` (PEM) the certificate has to be valid for `name`.
    """

    def __init__(self, port: int, name: str = "www.example.com", authority: bytes | None = None) -> None:
        self._port, self._name = port, name
        self._context = context(authority=authority.decode() if authority is not None else None)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.served = 0
        self.losses: list[Loss] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 40) -> None:
        """Wait until so many further connections were served."""
        wanted = self.served + count
        wait_for(lambda: self.served >= wanted, f"{count} further connections are served; lost: {self.losses[-3:]}")

    def lost_outside(self, since: float, until: float) -> list[Loss]:
        """What was lost that cannot be due to what happened in this time (Unix seconds)."""
        return [one for one in self.losses if one.ended < since or one.began > until]

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            began = time.time()
            try:
                self._visit()
            except OSError as error:
                with self._lock:
                    self.losses.append(Loss(began, time.time(), repr(error)))
            else:
                with self._lock:
                    self.served += 1

    def _visit(self) -> None:
        with connect(self._port, self._name, using=self._context) as tls:
            for _ in range(ROUNDS):
                message = os.urandom(1 + int.from_bytes(os.urandom(4)) % LARGEST)
                tls.sendall(message)
                answer = bytearray()
                while len(answer) < len(message):
                    chunk = tls.recv(65536)
                    if not chunk:
                        raise ConnectionError(f"an end after {len(answer)} of {len(message)} bytes")
                    answer += chunk
                if answer != message:
                    raise ConnectionError("what came back is not what was sent")
            tls.unwrap()
