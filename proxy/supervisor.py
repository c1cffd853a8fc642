"""The supervisor: forks the other processes, replaces those that die, and drains them at the end.

One selectors loop over signals and child channels: no asyncio and no threads, so that it may fork at any moment. It
owns the listening sockets and the front contexts; a worker that dies leaves both to the next. It knows its children
only as (role, number, callable), and learns from each whether it is ready.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proxy.channel import MAX_LINE, Channel, Message, encode
from proxy.sockets import Slot

log = logging.getLogger("snigate.supervisor")

STABLE = 5.0  # seconds a child must have lived for its next start not to be delayed
MAX_DELAY = 10.0  # seconds between starts of a child that keeps dying
GRACE = 2.0  # seconds beyond `drain` before a worker is killed
ONE_REQUEST = 1.0  # seconds within which several signals are one request to stop (a shell signals the whole group)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


@dataclass(frozen=True)
class ChildSpec:
    """A process to keep running. `main` gets its channel, and runs in the child until the process is to end."""

    role: str  # "keeper", "control" or "worker"
    number: int
    main: Callable[[Channel], None]
    keeps: tuple[socket.socket, ...] = ()  # the supervisor's sockets that this child uses; it closes all others

    @property
    def name(self) -> str:
        """How logs call it."""
        return f"worker {self.number}" if self.role == "worker" else self.role


@dataclass
class _Child:
    """A spec and the process that runs it now, if any."""

    spec: ChildSpec
    pid: int = 0
    channel: socket.socket | None = None
    started: float = 0.0
    ready: bool = False
    deaths: int = 0  # in a row, each soon after its start
    start_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)


class Supervisor:
    """Runs `specs` until told to stop. `on_ready` is called once, with what the keeper said, when a worker accepts."""

    def __init__(
        self,
        specs: Iterable[ChildSpec],
        sockets: Iterable[socket.socket],
        drain: float,
        on_ready: Callable[[Message], None],
        after_fork: Callable[[ChildSpec], None] = lambda _: None,
    ) -> None:
        self._children = [_Child(spec) for spec in specs]
        self._sockets = tuple(sockets)
        self._drain = drain
        self._on_ready = on_ready
        self._after_fork = after_fork
        self._selector = selectors.DefaultSelector()
        self._signals, self._wakeup = socket.socketpair()
        self._draining = False
        self._draining_since = 0.0
        self._drain_deadline = 0.0
        self._restarts = 0
        self._announced = False
        self._said_by_keeper: Message = {}

    def run(self) -> int:
        """Supervise until every child has ended after a stop; returns the exit status."""
        self._take_signals()
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        for child in self._children:
            self._start(child)
        while not self._draining or any(child.pid for child in self._children):
            for key, _ in self._selector.select(self._time_out()):
                key.data()
            self._reap()
            if self._draining:
                self._go_on_draining()
            else:
                self._start_due()
        log.info("stopped")
        return 0

    def _take_signals(self) -> None:
        self._signals.setblocking(False)
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)

    def _on_signals(self) -> None:
        try:
            numbers = self._signals.recv(256)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif number == signal.SIGHUP:
                log.error("reload is not available yet: the configuration stays as it is; restart to change it")

    def _stop(self) -> None:
        """Begin to drain; when told again, end at once."""
        if self._draining:
            if time.monotonic() - self._draining_since > ONE_REQUEST:
                log.warning("told to stop again: open connections are cut")
                self._drain_deadline = 0.0
            return
        log.info("stopping: no new connections; open ones have %g s", self._drain)
        self._draining = True
        self._draining_since = time.monotonic()
        self._drain_deadline = time.monotonic() + self._drain + GRACE
        self._tell_control()
        for child in self._children:
            if child.spec.role == "worker":
                self._say(child, {"drain": True})
        for sock in self._sockets:
            sock.close()

    def _go_on_draining(self) -> None:
        workers = [child for child in self._children if child.spec.role == "worker" and child.pid]
        if not workers:
            for child in self._children:  # their channel's end tells them
                self._close_channel(child)
        if time.monotonic() > self._drain_deadline:
            for child in self._children:
                if child.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGKILL)

    def _time_out(self) -> float | None:
        """Seconds until something is due without an event."""
        if self._draining:
            return 0.5
        due = [child.start_at for child in self._children if not child.pid]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.pid and now >= child.start_at:
                self._start(child)

    def _start(self, child: _Child) -> None:
        near, far = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            near.close()
            self._become(child.spec, far)
        far.close()
        near.setblocking(False)
        child.pid, child.channel, child.started, child.ready = pid, near, time.monotonic(), False
        child.received.clear()
        self._selector.register(near, selectors.EVENT_READ, lambda: self._hear(child))
        log.debug("%s started, process %d", child.spec.name, pid)
        self._tell_control()

    def _become(self, spec: ChildSpec, channel: socket.socket) -> None:
        """In the child: leave everything of the supervisor's behind, run, and never return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # the channel says when to end
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._signals.close()
            self._wakeup.close()
            for other in self._children:
                if other.channel is not None:
                    other.channel.close()
            for sock in self._sockets:
                if sock not in spec.keeps:
                    sock.close()
            self._after_fork(spec)
            spec.main(Channel(channel))
            status = 0
        except BaseException:
            log.exception("%s failed", spec.name)
        finally:
            logging.shutdown()
            os._exit(status)

    def _hear(self, child: _Child) -> None:
        """Take in what a child says; its channel's end is its death, which `_reap` sees to."""
        if child.channel is None:  # closed by what was heard a moment ago from another
            return
        try:
            data = child.channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_channel(child)
            return
        child.received += data
        *lines, rest = child.received.split(b"\n")
        child.received = rest
        try:
            for line in lines:
                self._take_in(child, json.loads(line))
            if len(rest) > MAX_LINE:
                raise ValueError(f"a line of more than {MAX_LINE} bytes")
        except (ValueError, AttributeError) as error:
            log.error("%s said what makes no sense (%s); it is replaced", child.spec.name, error)
            self._close_channel(child)

    def _take_in(self, child: _Child, message: Message) -> None:
        if message.get("ready"):
            child.ready = True
            if child.spec.role == "keeper":
                self._said_by_keeper = message
            self._tell_control()
            self._announce()

    def _announce(self) -> None:
        accepts = any(child.ready for child in self._children if child.spec.role == "worker")
        if not self._announced and accepts and self._said_by_keeper:
            self._announced = True
            self._on_ready(self._said_by_keeper)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    self._died(child, os.waitstatus_to_exitcode(status))

    def _died(self, child: _Child, code: int) -> None:
        self._close_channel(child)
        child.pid, child.ready = 0, False
        if self._draining:
            return
        now = time.monotonic()
        child.deaths = 0 if now - child.started > STABLE else child.deaths + 1
        delay = min(MAX_DELAY, 0.1 * 2 ** (child.deaths - 1)) if child.deaths else 0.0
        child.start_at = now + delay
        if child.spec.role == "worker":
            self._restarts += 1
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        log.error("%s %s; it is started again%s", child.spec.name, how, f" in {delay:g} s" if delay else "")
        self._tell_control()

    def _tell_control(self) -> None:
        """Let control know how the processes are."""
        message: Message = {
            "draining": self._draining,
            "worker_restarts": self._restarts,
            "processes": [
                {
                    "role": child.spec.role,
                    "number": child.spec.number,
                    "pid": child.pid or None,
                    "ready": child.ready,
                    "seconds": round(time.monotonic() - child.started, 1) if child.pid else None,
                }
                for child in self._children
            ],
        }
        for child in self._children:
            if child.spec.role == "control":
                self._say(child, message)

    def _say(self, child: _Child, message: Message) -> None:
        """Tell a child. One that has not listened for so long that its channel is full is replaced."""
        if child.channel is None:
            return
        data = encode(message)
        try:
            complete = child.channel.send(data) == len(data)
        except OSError:
            complete = False
        if not complete:
            self._close_channel(child)

    def _close_channel(self, child: _Child) -> None:
        if child.channel is not None:
            self._selector.unregister(child.channel)
            child.channel.close()
            child.channel = None


def slot_sockets(slots: Iterable[Slot]) -> list[socket.socket]:
    """Every socket of some slots."""
    return [sock for slot in slots for sockets in slot.sockets.values() for sock in sockets]
