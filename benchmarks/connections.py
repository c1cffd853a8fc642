"""Connections, many in flight at once from one epoll loop: handshake, one short request, its answer, close.

One process does it: with one core for the load, more of them would only share it. Connecting blocks, because on
loopback the kernel finishes a connection inside the call; everything after it is driven by readiness.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from OpenSSL import SSL

from benchmarks import client
from benchmarks.backend import SHORT, SHORT_ANSWER

PATIENCE = 20.0  # seconds in which something has to happen
# Says, by the connections begun and the seconds passed, in how many seconds the next is due; None: there is none.
Due = Callable[[int, float], float | None]


@dataclass(frozen=True)
class Target:
    """Where to connect, and the name to ask for."""

    port: int
    name: str


@dataclass
class Outcome:
    """What a load's connections saw."""

    latencies: list[float] = field(default_factory=list)  # seconds from connect to the whole answer
    started: list[float] = field(default_factory=list)  # when each of these began
    resumed: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Connection:
    """One of them."""

    def __init__(self, target: Target, context: SSL.Context, session: SSL.Session | None = None) -> None:
        self.started = time.perf_counter()
        self.socket = socket.create_connection(("127.0.0.1", target.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.tls = SSL.Connection(context, self.socket)
        self.tls.set_tlsext_host_name(target.name.encode())
        if session is not None:
            self.tls.set_session(session)
        self.tls.set_connect_state()
        self.request = SHORT % target.name.encode()
        self.received = b""
        self._shaken = False

    def advance(self) -> bool:
        """Go on as far as it goes; whether the answer is complete."""
        try:
            if not self._shaken:
                self.tls.do_handshake()
                self._shaken = True
                self.tls.send(self.request)
            self.received += self.tls.recv(4096)
        except SSL.WantReadError:
            return False
        return self.received.endswith(SHORT_ANSWER)

    def finish(self, patience: float = 10.0) -> None:
        """Wait for the answer."""
        deadline = time.monotonic() + patience
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while not self.advance():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {patience:g} s")
            poll.poll(1000)

    def close(self) -> None:
        """With close_notify; the server's own is not waited for."""
        try:
            self.tls.shutdown()
        except SSL.Error:
            pass
        finally:
            self.socket.close()


class Load:
    """A number of connections to a target, `in_flight` of them at a time."""

    def __init__(self, target: Target, offer: client.Offer, in_flight: int = 32) -> None:
        self._target = target
        self._offer = offer
        self._context = client.context(offer)
        self._in_flight = in_flight
        self._session: SSL.Session | None = None
        self._open: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._progress = time.perf_counter()

    def count(self, connections: int) -> Outcome:
        """This many; one alone before them where they need its session."""
        if self._offer.resume and self._session is None and connections:
            self.run(lambda begun, _: 0.0 if begun < 1 else None)
        return self.run(lambda begun, _: 0.0 if begun < connections else None)

    def run(self, due: Due) -> Outcome:
        """Begin connections when they are due, and wait for the last answer."""
        outcome, begun, began = Outcome(), 0, time.perf_counter()
        while True:
            wait = due(begun, time.perf_counter() - began)
            if wait == 0 and len(self._open) < self._in_flight:
                begun += 1
                self._begin(outcome)
                continue
            if wait is None and not self._open:
                break
            if self._open and time.perf_counter() - self._progress > PATIENCE:
                raise TimeoutError(f"{len(self._open)} connections came no further within {PATIENCE:g} s")
            for descriptor, _ in self._epoll.poll(min(wait or 1.0, 1.0)):
                self._advance(self._open[descriptor], outcome)
        outcome.seconds = time.perf_counter() - began
        return outcome

    def _begin(self, outcome: Outcome) -> None:
        try:
            made = Connection(self._target, self._context, self._session)
        except OSError as error:
            outcome.failures.append(str(error))
            return
        descriptor = made.socket.fileno()
        self._open[descriptor] = made
        self._epoll.register(descriptor, select.EPOLLIN)
        self._advance(made, outcome)

    def _advance(self, one: Connection, outcome: Outcome) -> None:
        self._progress = time.perf_counter()
        try:
            if not one.advance():
                return
        except (SSL.Error, OSError) as error:
            outcome.failures.append(repr(error))
        else:
            outcome.latencies.append(time.perf_counter() - one.started)
            outcome.started.append(one.started)
            outcome.resumed += client.resumed(one.tls)
            if self._offer.resume:
                self._session = one.tls.get_session()
        del self._open[one.socket.fileno()]
        one.close()


def hold(target: Target, offer: client.Offer, count: int) -> list[Connection]:
    """Open connections and use each once; they stay open until they are closed."""
    context = client.context(offer)
    held = []
    for _ in range(count):
        one = Connection(target, context)
        one.finish()
        held.append(one)
    return held


def probe(target: Target, offer: client.Offer) -> Connection:
    """One connection, used once and closed; it knows what it negotiated."""
    one = Connection(target, client.context(offer))
    try:
        one.finish()
    finally:
        one.close()
    return one
