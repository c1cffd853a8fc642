"""Every process of the supervisor's, of whatever generation: starting, reaping, and ending them in time.

No two living workers have the same number, since their files of metrics carry it.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from proxy.channel import Message
from proxy.child import Child, State

log = logging.getLogger("snigate.supervisor")

NO_ROOM = 1.0  # seconds until a process is tried again that could not be forked
GRACE = 2.0  # seconds beyond the time it was given before a process is killed
SILENCE = 5.0  # seconds without a sign of life before a worker is killed


class Family:
    """The children. `on_message` is called with what each says, `on_worker_end` with the number of a reaped worker.

    `on_fork` is called in each child, to close what else the supervisor has open.
    """

    def __init__(
        self,
        on_message: Callable[[Child, Message], None],
        on_worker_end: Callable[[int], None],
        on_fork: Callable[[], None],
    ) -> None:
        self.selector = selectors.DefaultSelector()
        self._on_fork = on_fork
        self._on_message = on_message
        self._on_worker_end = on_worker_end
        self._children: list[Child] = []
        self._sockets: list[socket.socket] = []

    def __iter__(self) -> Iterator[Child]:
        return iter(tuple(self._children))

    @property
    def workers(self) -> list[Child]:
        """The workers that have a process now."""
        return [child for child in self._children if child.spec.role == "worker" and child.pid]

    def hold(self, sockets: Iterable[socket.socket]) -> None:
        """Keep sockets for children; each child closes those that it does not use."""
        self._sockets += [sock for sock in sockets if sock not in self._sockets]

    def release(self, sockets: Iterable[socket.socket]) -> None:
        """Close this process's copies."""
        for sock in tuple(sockets):
            if sock in self._sockets:
                self._sockets.remove(sock)
            sock.close()

    def release_all(self) -> None:
        """Close this process's copies of all sockets."""
        self.release(self._sockets)

    def start(self, child: Child) -> bool:
        """Fork a child; False where the system has no room for it now, and it is to be tried again."""
        if child not in self._children:
            self._children.append(child)
        try:
            child.start(self._free_number(child), self.selector, self._on_message, lambda: self._leave(child))
        except OSError as error:
            child.start_at = time.monotonic() + NO_ROOM
            log.error(
                "%s cannot be started (%s) and is tried again each second; raise its limits (processes, open files)",
                child.name,
                os.strerror(error.errno or 0),
            )
            return False
        return True

    def reap(self) -> Iterator[tuple[Child, int]]:
        """Each child that has ended, and its exit code (negative: the signal that killed it)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self:
                if child.pid == pid:
                    if child.spec.role == "worker":
                        self._on_worker_end(child.number)
                    yield child, os.waitstatus_to_exitcode(status)

    def forget(self, child: Child) -> None:
        """This child is not started again."""
        if child in self._children:
            self._children.remove(child)

    def drain(self, child: Child, seconds: float) -> None:
        """Let a worker end with its last connection, or after `seconds`; told again, it keeps the earlier end."""
        self._ending(child, seconds)
        child.say({"drain": seconds})

    def end(self, child: Child, seconds: float) -> None:
        """Let a process finish what it is answering; at most `seconds`."""
        self._ending(child, seconds)
        child.say({"end": True})

    def end_now(self, child: Child) -> None:
        """Let a process end at once."""
        self._ending(child, 0.0)
        child.close()

    def kill(self, child: Child) -> None:
        """End a process that serves nobody."""
        self._ending(child, 0.0)
        child.kill()

    def kill_overdue(self, now: float) -> None:
        """Kill what did not end in the time it was given."""
        for child in self._children:
            if child.pid and child.deadline is not None and now >= child.deadline:
                child.kill()

    def kill_silent(self, now: float) -> None:
        """Kill workers that have given signs of life and do so no more: their loop does not turn, and will not."""
        for child in self.workers:
            if child.alive_at is not None and now - child.alive_at > SILENCE:
                log.error(
                    "%s has given no sign of life for %g s; it is killed, and its connections end", child.name, SILENCE
                )
                child.alive_at = None
                child.kill()

    def forgive_silence(self, now: float) -> None:
        """Nobody has listened for a while, so nobody has been silent."""
        for child in self.workers:
            child.alive_at = None if child.alive_at is None else now

    def next_deadline(self) -> float | None:
        """When `kill_overdue` and `kill_silent` are to be called, in monotonic seconds."""
        moments = [one.deadline for one in self._children if one.pid and one.deadline is not None]
        moments += [one.alive_at + SILENCE for one in self.workers if one.alive_at is not None]
        return min(moments, default=None)

    def _ending(self, child: Child, seconds: float) -> None:
        deadline = time.monotonic() + seconds + GRACE
        child.state = State.ENDING
        child.deadline = deadline if child.deadline is None else min(child.deadline, deadline)
        if not child.pid:
            self.forget(child)

    def _free_number(self, child: Child) -> int:
        if child.spec.role != "worker":
            return 0
        taken = {one.number for one in self.workers}
        return next(number for number in count() if number not in taken)

    def _leave(self, child: Child) -> None:
        """In a process just forked: close everything that is not this child's."""
        self.selector.close()
        self._on_fork()
        for other in self._children:
            if other is not child:
                other.leave_channel()
        for sock in self._sockets:
            if sock not in child.spec.keeps:
                sock.close()
