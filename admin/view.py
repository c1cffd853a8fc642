"""What the control process knows about the running server, and what it answers to those who ask.

Two sources: the supervisor says how the processes are, over the channel; the keeper sends certificates (without
private keys) and reports, which a replica takes in. Nothing is read from disk here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from admin import answers
from admin.description import describe
from admin.explanation import Asked, best, explain
from admin.refusal import named
from admin.text import iso, iso_or_none, plain
from admin.version import version
from certstore.replica import Replica
from certstore.selector import Selector
from config.model import Config, ListenerConfig
from proxy.channel import Message
from proxy.listener_selector import selector_of

AT_ONCE = 100  # certificates described between two events of the loop: about ten milliseconds

READY, NO_WORKER, DRAINING = "ready", "no-worker", "draining"
STATES = (READY, NO_WORKER, DRAINING)


class View:
    """The running server as control sees it. `started_at` is Unix seconds; `listeners` and `admin` are addresses."""

    def __init__(
        self,
        config: Config,
        replica: Replica,
        listeners: Mapping[str, Sequence[str]],
        admin: Mapping[str, str],
        started_at: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.replica = replica
        self.clock = clock
        self.draining = False
        self.worker_restarts = 0
        self.generation = 0
        self.reloads: Mapping[str, int] = {}  # of the configuration, by how they ended
        self._listeners = listeners
        self._admin = dict(admin)
        self.started_at = started_at
        self._processes: tuple[answers.Process, ...] = ()
        self._selectors = {one.name: selector_of(one, replica) for one in config.listeners}

    def hear(self, message: Message) -> None:
        """Take in what the supervisor says about the processes."""
        now = self.clock()
        self.draining = bool(message["draining"])
        self.worker_restarts = int(message["worker_restarts"])
        self.generation = int(message["generation"])
        self.reloads = message["reloads"]
        self._processes = tuple(
            answers.Process(
                role=one["role"],
                number=one["number"],
                generation=one["generation"],
                pid=one["pid"],
                state=one["state"],
                ready=one["ready"],
                started_at=iso(now - one["seconds"]) if one["seconds"] is not None else None,
            )
            for one in message["processes"]
        )

    @property
    def workers_ready(self) -> int:
        """How many workers accept connections."""
        return sum(one.ready for one in self._processes if one.role == "worker")

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.draining:
            return DRAINING
        return READY if self.workers_ready else NO_WORKER

    def explain(self, about: Asked, listener: ListenerConfig | None = None) -> answers.Explanation:
        """Every candidate for a client that sends this name, or connects to this address."""
        selector = self.replica.selector if listener is None else self._selectors[listener.name]
        return explain(selector, about, self.config.certificates.order, listener)

    async def certificates(self) -> answers.Certificates:
        """Every certificate; the loop goes on meanwhile."""
        default = best(self.replica.selector, None)
        fingerprint = default.fingerprint if default is not None else None
        described: list[answers.Certificate] = []
        every = tuple(self.replica.index)
        for start in range(0, len(every), AT_ONCE):
            # A selector of this batch's own: what it caches is dropped with it, and not kept for 100,000 names.
            selector = Selector(self.replica.index, self.config.certificates.order, self.clock)
            now = self.clock()
            for one in every[start : start + AT_ONCE]:
                described.append(describe(one, selector, now, self.config, is_default=one.fingerprint == fingerprint))
            await asyncio.sleep(0)
        report = self.replica.report
        return answers.Certificates(
            certificates=tuple(described),
            problems=tuple(
                answers.RejectedFile(plain(one.path), one.reason, plain(one.message))
                for one in (report.problems if report is not None else ())
            ),
            waiting=tuple(map(plain, report.waiting)) if report is not None else (),
            default=default,
        )

    def certificate(self, which: str) -> answers.Certificate:
        """The one whose fingerprint begins so. Raises NotFound."""
        one = named(tuple(self.replica.index), which)
        selector = self.replica.selector
        default = best(selector, None)
        is_default = default is not None and default.fingerprint == one.fingerprint
        return describe(one, selector, self.clock(), self.config, is_default=is_default)

    def status(self) -> answers.Status:
        """How the processes and the store are."""
        report = self.replica.report
        return answers.Status(
            version=version(),
            started_at=iso(self.started_at),
            uptime_seconds=round(max(0.0, self.clock() - self.started_at), 1),
            ready=self.state == READY,
            state=self.state,
            draining=self.draining,
            generation=self.generation,
            worker_restarts=self.worker_restarts,
            admin=self._admin,
            listeners=tuple(map(self._listener, self.config.listeners)),
            processes=self._processes,
            store=self._store(),
            replicas=tuple(
                answers.Replica(one.worker, one.pid, one.change, one.certificates, one.digest)
                for one in (report.replicas if report is not None else ())
            ),
        )

    def _listener(self, one: ListenerConfig) -> answers.Listener:
        return answers.Listener(
            name=one.name,
            addresses=tuple(self._listeners.get(one.name, ())),
            protocol=one.protocol,
            backend=one.target,
            tls="none" if one.redirects else one.tls,
            plain_text=one.lets_plain_text_through,
            default=one.default,
            pin=one.pin,
        )

    def _store(self) -> answers.Store | None:
        report = self.replica.report
        if report is None:
            return None
        return answers.Store(
            change=report.change,
            certificates=len(self.replica.index),
            problems=len(report.problems),
            waiting=len(report.waiting),
            unverified=report.unverified,
            watching=report.watching,
            swaps=report.swaps,
            last_scan=iso_or_none(report.scanned_at),
            last_swap=iso_or_none(report.swapped_at),
        )
