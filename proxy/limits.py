"""How many connections a worker takes, in all and from one client address, open at a time and new in a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from proxy.rate import Rate


class Limits:
    """Counts connections of one worker. IPv6 clients are counted by their /64."""

    def __init__(
        self,
        connections: int,
        per_client: int | None,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rate`: of new connections a second from one client; None, as with `per_client`: no limit."""
        self._rate = Rate(rate) if rate is not None else None
        self._clock = clock
        self._connections = connections
        self._per_client = per_client
        self._clients: dict[str, int] = {}
        self.open = 0

    @property
    def full(self) -> bool:
        """Whether the worker takes no further connection now."""
        return self.open >= self._connections

    def admit(self, address: str) -> bool:
        """Count a connection in; False when its client has as many as it may, or is too fast."""
        if self._rate is not None and not self._rate.allows(_client(address), self._clock()):
            return False
        if self._per_client is not None:
            key = _client(address)
            held = self._clients.get(key, 0)
            if held >= self._per_client:
                return False
            self._clients[key] = held + 1
        self.open += 1
        return True

    def admit_unnamed(self) -> None:
        """Count a connection in whose client is not known yet: its PROXY header will tell."""
        self.open += 1

    def name(self, address: str) -> bool:
        """Count the client of a connection that was admitted unnamed; False, and not counted, as for `admit`."""
        self.open -= 1
        if self.admit(address):
            return True
        self.open += 1
        return False

    def release(self, address: str | None) -> None:
        """Count an admitted connection out; None for one that is still unnamed."""
        self.open -= 1
        if self._per_client is not None and address is not None:
            key = _client(address)
            held = self._clients[key] - 1
            if held:
                self._clients[key] = held
            else:
                del self._clients[key]


def _client(address: str) -> str:
    """What counts as one client: an IPv4 address, or the first four groups of an IPv6 address."""
    if ":" not in address:
        return address
    head, gap, tail = address.partition("::")
    groups = head.split(":") if head else []
    if gap:
        end = tail.split(":") if tail else []
        groups += ["0"] * (8 - len(groups) - len(end)) + end
    return ":".join(groups[:4])
