"""How many connections a worker takes, in all and from one client address, open at a time and new in a second.

A worker has one `Limits`, which its listeners share. A listener that says limits of its own has one beside it: what it
says is counted for its connections alone, all else in the worker's. What costs least is looked at first.
"""

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
        self._held = _Held(per_client) if per_client is not None else None
        self._rate = Rate(rate) if rate is not None else None
        self._clock = clock
        self._connections = connections
        self.open = 0

    @property
    def full(self) -> bool:
        """Whether no further connection is taken now."""
        return self.open >= self._connections

    @property
    def reached(self) -> str:
        """Of what there are too many, where it is full."""
        return f"server.max_connections ({self._connections})"

    def for_listener(self, connections: int | None, per_client: int | None, rate: float | None) -> Limits:
        """Those of a listener that says these itself; None: it does not, and shares what the worker has."""
        if (connections, per_client, rate) == (None, None, None):
            return self
        return _ListenerLimits(self, connections, per_client, rate)

    def admit(self, address: str) -> bool:
        """Count a connection in; False when its client has as many as it may, or is too fast."""
        if not self.name(address):
            return False
        self.open += 1
        return True

    def admit_unnamed(self) -> None:
        """Count a connection in whose client is not known yet: its PROXY header will tell."""
        self.open += 1

    def name(self, address: str) -> bool:
        """Count the client of a connection that was admitted unnamed; False, and not counted, as for `admit`."""
        held, rate = self._held, self._rate
        if held is None and rate is None:
            return True
        client = client_of(address)
        if held is not None and not held.has_room(client):
            return False
        if rate is not None and not rate.allows(client, self._clock()):
            return False
        if held is not None:
            held.add(client)
        return True

    def release(self, address: str | None) -> None:
        """Count an admitted connection out; None for one that is still unnamed."""
        self.open -= 1
        if self._held is not None and address is not None:
            self._held.remove(client_of(address))


class _ListenerLimits(Limits):
    """One listener's, inside its worker's."""

    def __init__(self, worker: Limits, connections: int | None, per_client: int | None, rate: float | None) -> None:
        super().__init__(worker._connections if connections is None else connections, per_client, rate, worker._clock)
        self._worker = worker
        if per_client is None:
            self._held = worker._held
        if rate is None:
            self._rate = worker._rate

    @property
    def full(self) -> bool:
        return self.open >= self._connections or self._worker.full

    @property
    def reached(self) -> str:
        return self._worker.reached if self._worker.full else f"its max_connections ({self._connections})"

    def admit(self, address: str) -> bool:
        if not super().admit(address):
            return False
        self._worker.open += 1
        return True

    def admit_unnamed(self) -> None:
        super().admit_unnamed()
        self._worker.open += 1

    def release(self, address: str | None) -> None:
        super().release(address)
        self._worker.open -= 1


class _Held:
    """How many connections each client has open, of those that have any."""

    __slots__ = ("_most", "clients")

    def __init__(self, most: int) -> None:
        self._most = most
        self.clients: dict[str, int] = {}

    def has_room(self, client: str) -> bool:
        return self.clients.get(client, 0) < self._most

    def add(self, client: str) -> None:
        self.clients[client] = self.clients.get(client, 0) + 1

    def remove(self, client: str) -> None:
        left = self.clients[client] - 1
        if left:
            self.clients[client] = left
        else:
            del self.clients[client]


def client_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the first four groups of an IPv6 address."""
    if ":" not in address:
        return address
    head, gap, tail = address.partition("::")
    groups = head.split(":") if head else []
    if gap:
        end = tail.split(":") if tail else []
        groups += ["0"] * (8 - len(groups) - len(end)) + end
    return ":".join(groups[:4])
