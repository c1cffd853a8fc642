"""A steady stream of clients: each handshakes, verifies what it is shown, and is written down."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from tests.support.snigate import wait_for
from tests.support.tls_client import connect, context, see

RATE = 50.0  # connections a second
ENOUGH = 30  # connections in a row that reach every one of two workers but once in 2**29 times


class Visit(NamedTuple):
    """One connection: when it began and when its handshake was done (Unix seconds), and what it was shown."""

    began: float
    ended: float
    fingerprint: str


class Traffic:
    """Connects to `name` on `port` at `rate` until the end of the block.

    With `authority` (PEM) every handshake is verified as a browser would: chain, name and dates; that the certificate
    and the key belong together is part of any handshake. What fails is in `failures`, the rest in `visits`.
    """

    def __init__(self, port: int, name: str, authority: bytes | None = None, rate: float = RATE) -> None:
        self._port, self._name, self._rate = port, name, rate
        self._context: ssl.SSLContext = context(authority=authority.decode() if authority is not None else None)
        self.visits: list[Visit] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        self.more(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def seen(self) -> Sequence[str]:
        """The fingerprints shown so far, in order, those shown several times in a row only once."""
        visits = [visit.fingerprint for visit in self.visits]
        return [one for place, one in enumerate(visits) if place == 0 or visits[place - 1] != one]

    def more(self, count: int) -> None:
        """Wait until `count` further connections were made."""
        target = len(self.visits) + len(self.failures) + count
        wait_for(lambda: len(self.visits) + len(self.failures) >= target, f"{count} more connections are made")

    def settles_on(self, fingerprint: str) -> float:
        """Wait until only this certificate is shown, by every worker; when the last other one was asked for."""
        wait_for(
            lambda: {visit.fingerprint for visit in self.visits[-ENOUGH:]} == {fingerprint},
            f"only {fingerprint[:16]} is shown",
        )
        return max((visit.began for visit in self.visits if visit.fingerprint != fingerprint), default=0.0)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / self._rate
            began = time.time()
            try:
                with connect(self._port, self._name, using=self._context) as tls:
                    self.visits.append(Visit(began, time.time(), see(tls).fingerprint))
            except OSError as error:
                self.failures.append(f"{time.time():.3f}: {error!r}")
