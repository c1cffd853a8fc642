"""A steady stream of clients that take down what they are told, and whatever goes wrong."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from tests.support.snigate import wait_for
from tests.support.tls_client import connect, context

GROUPS = 4  # threads; each is one client after another


class Visitors:
    """Connects at `rate` a second in all, to each of `names` in turn, offering `alpn`, until the end of the block.

    `told` counts what came of it: the server name, the ALPN protocol agreed on, and all that the backend said.
    """

    def __init__(self, port: int, names: tuple[str, ...], alpn: tuple[str, ...] = (), rate: float = 100.0) -> None:
        self._port, self._names, self._pause = port, names, GROUPS / rate
        self._context = context(alpn=alpn)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.told: dict[tuple[str, str | None, str], int] = {}
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(place,), daemon=True) for place in range(GROUPS)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        self.more(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        """Connections made so far, those that failed included."""
        return sum(self.told.values()) + len(self.failures)

    def more(self, count: int) -> None:
        """Wait until so many further connections were made."""
        wanted = self.count + count
        wait_for(lambda: self.count >= wanted, f"{count} further connections")

    def _run(self, place: int) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._visit(self._names[place % len(self._names)])
            due = max(due + self._pause, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _visit(self, name: str) -> None:
        try:
            with connect(self._port, name, using=self._context) as tls:
                said = bytearray()
                while chunk := tls.recv(4096):
                    said += chunk
                key = (name, tls.selected_alpn_protocol(), said.decode())
                tls.unwrap()
        except OSError as error:
            with self._lock:
                self.failures.append(f"{name}: {error!r}")
            return
        with self._lock:
            self.told[key] = self.told.get(key, 0) + 1
