"""The supervisor: forks the other processes, replaces those that die, rolls generations, and drains all at the end.

One selectors loop over signals and child channels: no asyncio and no threads, so that it may fork at any moment. It
owns the listening sockets and the front contexts; a worker that dies leaves both to the next. What its children do it
knows only as callables of a plan; how one plan follows another is `proxy.succession`'s.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable
from enum import Enum

from proxy.channel import Message
from proxy.child import Child, State
from proxy.family import GRACE, SILENCE, Family
from proxy.generation import Plan, Replan
from proxy.service_manager import ServiceManager
from proxy.succession import PATIENCE, Request, Succession

log = logging.getLogger("snigate.supervisor")

ONE_REQUEST = 1.0  # seconds within which several signals are one request to stop (a shell signals the whole group)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


class Stage(Enum):
    """How far a stop is."""

    SERVING = "serving"
    LEAVING = "leaving"  # still accepting, while load balancers find readiness to fail
    DRAINING = "draining"


class Supervisor:
    """Runs a plan, and those that follow it, until told to stop.

    `on_ready` is called once, with what the keeper said, when a worker accepts; `on_worker_end` with the number of each
    worker that has ended. `patience` is in seconds, as explained in `proxy.succession`. `manager` is told how things
    are.
    """

    def __init__(
        self,
        first: Plan,
        replan: Replan,
        on_ready: Callable[[Message], None],
        on_worker_end: Callable[[int], None] = lambda _: None,
        patience: float = PATIENCE,
        manager: ServiceManager | None = None,
    ) -> None:
        self._manager = manager or ServiceManager({})
        self._family = Family(self._hear, on_worker_end, self._leave)
        self._succession = Succession(self._family, first, replan, patience)
        self._on_ready = on_ready
        self._signals, self._wakeup = socket.socketpair()
        self._stage = Stage.SERVING
        self._since = 0.0  # monotonic seconds, when that stage began
        self._restarts = 0
        self._announced = False
        self._said_by_keeper: Message = {}
        self._told: dict[Child, object] = {}  # what each control process was told last

    def run(self) -> int:
        """Supervise until every child has ended after a stop; returns the exit status."""
        self._take_signals()
        self._succession.begin()
        while self._stage is not Stage.DRAINING or any(child.pid for child in self._family):
            self._tell_control()
            self._tell_manager()
            turned_at = time.monotonic()
            time_out = self._time_out()
            for key, events in self._family.selector.select(time_out):
                key.data(events)
            self._reap()
            now = time.monotonic()
            if now - turned_at > time_out + SILENCE / 2:  # this process, or the machine, has slept
                self._family.forgive_silence(now)
            self._family.kill_overdue(now)
            self._family.kill_silent(now)
            if self._stage is Stage.LEAVING and now >= self._since + self._predrain:
                self._drain(now)
            if self._stage is not Stage.DRAINING:
                self._succession.advance(now)
            elif not self._family.workers:
                for child in self._family:
                    self._family.end_now(child)
        log.info("stopped")
        return 0

    def _take_signals(self) -> None:
        self._signals.setblocking(False)
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        self._family.selector.register(self._signals, selectors.EVENT_READ, self._on_signals)

    def _leave(self) -> None:
        """In a process just forked."""
        self._signals.close()
        self._wakeup.close()
        self._manager.leave()

    def _on_signals(self, _: int) -> None:
        try:
            numbers = self._signals.recv(256)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif number == signal.SIGHUP and self._stage is not Stage.DRAINING:
                self._succession.ask(Request("SIGHUP", reread=True))

    def _stop(self) -> None:
        """Go on to the next stage; when told once more, end at once."""
        now = time.monotonic()
        if self._stage is Stage.SERVING:
            if not self._predrain:
                self._drain(now)
                return
            log.info("leaving: connections are accepted for %g s more, while readiness fails", self._predrain)
            self._stage, self._since = Stage.LEAVING, now
        elif now - self._since > ONE_REQUEST and self._stage is Stage.LEAVING:
            self._drain(now)
        elif now - self._since > ONE_REQUEST:
            log.warning("told to stop again: open connections are cut")
            for worker in self._family.workers:  # by resets: to be killed would end them as if they were whole
                self._family.drain(worker, 0.0)

    @property
    def _predrain(self) -> float:
        return self._succession.serving.plan.predrain

    def _drain(self, now: float) -> None:
        drain = self._succession.serving.plan.drain
        log.info("stopping: no new connections; open ones have %g s", drain)
        self._stage, self._since = Stage.DRAINING, now
        self._succession.stop()
        self._tell_control()
        for worker in self._family.workers:
            self._family.drain(worker, drain)
        self._family.release_all()

    def _time_out(self) -> float:
        """Seconds until something is due without an event."""
        deadline = self._family.next_deadline()
        moments = [one for one in (deadline, self._manager.due()) if one is not None]
        if self._stage is Stage.LEAVING:
            moments.append(self._since + self._predrain)
        if self._stage is not Stage.DRAINING:
            moments.append(self._succession.due())
        return max(0.0, min(moments) - time.monotonic()) if moments else GRACE

    def _hear(self, child: Child, message: Message) -> None:
        """Take in what a child says."""
        if "reload" in message and child.spec.role == "control":
            request = Request("snigate reload", reread=True, asker=child, number=int(message["reload"]))
            self._succession.ask(request)
            if self._stage is Stage.DRAINING:
                self._succession.stop()
        elif message.get("alive"):
            child.alive_at = time.monotonic()
        elif child.state is State.ENDING:
            return
        elif message.get("prepared"):
            self._succession.prepared(child)
        elif message.get("ready"):
            child.state = State.READY
            if child.spec.role == "keeper":
                self._said_by_keeper = message
            self._announce()

    def _announce(self) -> None:
        accepts = any(worker.state is State.READY for worker in self._family.workers)
        if not self._announced and accepts and self._said_by_keeper:
            self._announced = True
            self._on_ready(self._said_by_keeper)

    def _reap(self) -> None:
        for child, code in self._family.reap():
            told_to_end = child.state is State.ENDING
            child.ended()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            if told_to_end or self._stage is Stage.DRAINING:
                log.debug("%s of generation %d %s", child.name, child.generation, how)
                self._family.forget(child)
            elif self._succession.died(child, how, time.monotonic()) and child.spec.role == "worker":
                self._restarts += 1

    def _tell_manager(self) -> None:
        """Let systemd know, and that this loop turns."""
        workers = sum(worker.state is State.READY for worker in self._family.workers)
        if self._stage is Stage.DRAINING:
            self._manager.tell("stopping", "open connections are waited for")
        elif self._stage is Stage.LEAVING:
            self._manager.tell("stopping", "readiness fails, and connections are still accepted")
        elif not self._announced:
            self._manager.tell("starting", "the first worker is waited for")
        elif self._succession.is_rolling:
            self._manager.tell("reloading", "a new generation is on its way")
        else:
            self._manager.tell("ready", f"{workers} workers of generation {self._succession.serving.number} accept")
        self._manager.live(time.monotonic())

    def _tell_control(self) -> None:
        """Let control know how the processes are, when that has changed. Who is busy hears of it later."""
        children = sorted(self._family, key=lambda one: (one.spec.role == "worker", one.number))
        seen = (
            self._stage,
            self._restarts,
            self._succession.serving.number,
            tuple(self._succession.reloads.items()),
            tuple((child, child.pid, child.state, child.number) for child in children),
        )
        told: dict[Child, object] = {}
        for control in self._succession.controls:
            if self._told.get(control) != seen and control.pid and control.has_heard:
                control.say(self._message(children))
                told[control] = seen
            elif control in self._told:
                told[control] = self._told[control]
        self._told = told

    def _message(self, children: list[Child]) -> Message:
        return {
            "draining": self._stage is not Stage.SERVING,
            "worker_restarts": self._restarts,
            "generation": self._succession.serving.number,
            "reloads": self._succession.reloads,
            "processes": [child.report() for child in children],
        }
