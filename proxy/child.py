"""One process under the supervisor: how it is forked, the channel to it, and what it is doing.

A child says that it is prepared or ready, with a few facts; it is told to accept, to drain, to end, or how the others
are. What it does not read at once waits here, up to a limit: the supervisor never waits for a child.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from proxy.channel import MAX_LINE, Channel, Message, encode

log = logging.getLogger("snigate.supervisor")

STABLE = 5.0  # seconds a child must have lived for its next start not to be delayed
FIRST_DELAY = 0.1  # seconds until a child is started again that died soon after its start...
DOUBLINGS = 10  # ...doubled with each further such death, more often than it takes to MAX_DELAY
MAX_DELAY = 10.0  # seconds between starts of a child that keeps dying
MAX_UNREAD = 1 << 20  # bytes a child may leave unread before it is replaced


class State(Enum):
    """What a child is doing."""

    DOWN = "down"  # there is no process, and there is to be one
    STARTING = "starting"
    PREPARED = "prepared"  # a worker that has caught up, and waits to be told to accept
    READY = "ready"
    ENDING = "draining"  # told to end when it is done with what it has


@dataclass(frozen=True, eq=False)
class ChildSpec:
    """A process to keep running. `main` gets its number and its channel, and runs until the process is to end."""

    role: str  # "keeper", "control" or "worker"
    main: Callable[[int, Channel], None]
    keeps: tuple[socket.socket, ...] = ()  # the supervisor's sockets that this child uses; it closes all others


class Child:
    """A spec, and the process that runs it now, if any."""

    def __init__(self, spec: ChildSpec, generation: int) -> None:
        self.spec = spec
        self.generation = generation  # the one that it was first started for
        self.number = 0  # of workers, the lowest that no other living worker had
        self.pid = 0
        self.state = State.DOWN
        self.start_at = 0.0  # monotonic seconds before which it is not started again
        self.deadline: float | None = None  # monotonic seconds at which it is killed
        self.alive_at: float | None = None  # monotonic seconds of its last sign of life; None: it has given none yet
        self._started = 0.0
        self.deaths = 0  # in a row, each soon after its start
        self._channel: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._received = bytearray()
        self._unsent = bytearray()

    @property
    def name(self) -> str:
        """How logs call it."""
        return f"worker {self.number}" if self.spec.role == "worker" else self.spec.role

    @property
    def has_heard(self) -> bool:
        """Whether everything it was told is on its way."""
        return not self._unsent

    def start(
        self,
        number: int,
        selector: selectors.BaseSelector,
        on_message: Callable[[Child, Message], None],
        leave: Callable[[], None],
    ) -> None:
        """Fork. `leave` is called in the child, to close what belongs to the supervisor and others. Raises OSError."""
        near, far = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            near.close()
            far.close()
            raise
        if pid == 0:
            near.close()
            self.number = number
            self._become(far, leave)
        far.close()
        near.setblocking(False)
        self.number, self.pid, self.state, self.deadline, self.alive_at = number, pid, State.STARTING, None, None
        self._started = time.monotonic()
        self._channel, self._selector = near, selector
        self._received.clear()
        self._unsent.clear()
        selector.register(near, selectors.EVENT_READ, lambda events: self._on_channel(events, on_message))
        log.debug("%s of generation %d started, process %d", self.name, self.generation, pid)

    def _become(self, channel: socket.socket, leave: Callable[[], None]) -> None:
        """In the child: leave everything of the supervisor's behind, run, and never return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # the channel says when to end
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            leave()
            self.spec.main(self.number, Channel(channel))
            status = 0
        except BaseException:
            log.exception("%s failed", self.name)
        finally:
            logging.shutdown()
            os._exit(status)

    def say(self, message: Message) -> None:
        """Tell the process. One that has not listened for too long loses its channel, and with it its life."""
        if self._channel is None:
            return
        self._unsent += encode(message)
        self._flush()
        if len(self._unsent) > MAX_UNREAD:
            log.error("%s does not listen; it is replaced", self.name)
            self.close()

    def close(self) -> None:
        """Close the channel, which tells the process to end at once."""
        if self._channel is not None and self._selector is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None

    def leave_channel(self) -> None:
        """In a process just forked for another child: close the copy of this one's channel."""
        if self._channel is not None:
            self._channel.close()

    def kill(self) -> None:
        """End the process without asking; it is reaped like any other."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)  # there until it is reaped

    def ended(self) -> None:
        """The process is gone, and has been reaped."""
        self.close()
        self.pid, self.state, self.deadline = 0, State.DOWN, None

    def delay(self, now: float) -> float:
        """Plan the next start after a death; returns the seconds until then, more with each death in a row."""
        self.deaths = 0 if now - self._started > STABLE else self.deaths + 1
        seconds = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self.deaths - 1, DOUBLINGS)) if self.deaths else 0.0
        self.start_at = now + seconds
        return seconds

    def report(self) -> Message:
        """What control is told of it."""
        return {
            "role": self.spec.role,
            "number": self.number,
            "generation": self.generation,
            "pid": self.pid or None,
            "state": self.state.value,
            "ready": self.state is State.READY,
            "seconds": round(time.monotonic() - self._started, 1) if self.pid else None,
        }

    def _on_channel(self, events: int, on_message: Callable[[Child, Message], None]) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            self._hear(on_message)

    def _hear(self, on_message: Callable[[Child, Message], None]) -> None:
        """Take in what the process says; its channel's end is its death, which reaping sees to."""
        if self._channel is None:  # closed by what was heard a moment ago from another
            return
        try:
            data = self._channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        try:
            for line in lines:
                on_message(self, json.loads(line))
            if len(self._received) > MAX_LINE:
                raise ValueError(f"a line of more than {MAX_LINE} bytes")
        except Exception as error:  # whatever it says, and whoever speaks for it by now, costs this child alone
            log.error("%s said what makes no sense (%s); it is replaced", self.name, error)
            self.close()

    def _flush(self) -> None:
        if self._channel is None or self._selector is None:
            return
        try:
            while self._unsent:
                del self._unsent[: self._channel.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        key = self._selector.get_key(self._channel)
        if key.events != events:
            self._selector.modify(self._channel, events, key.data)
