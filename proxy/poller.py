"""Which of very many sockets are ready: the event loop, with one epoll descriptor for all connections of a worker.

To watch a socket and to let it go costs uvloop an object of 0.4 KB and eight system calls, and a connection has two.
Here it is two system calls and a place in a dictionary. The loop itself watches the epoll descriptor alone; its timers
are used as they are.

Where much is to be done for many at once, it is done step by step for all of them: see `next_step`. The same code for
one connection after the other is in the processor's caches from the second on, which takes a tenth off a handshake.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol

AT_ONCE = 64  # sockets told of in one go...
ROUNDS = 8  # ...and that many goes before the loop has its turn: while there is much to do, a go is cheaper than a turn

Callback = Callable[[], object]

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Loop(Protocol):
    """What connections need of an event loop, be it a Poller or one of asyncio's."""

    def time(self) -> float:
        """Seconds, monotonic."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> asyncio.Handle:
        """See asyncio."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """See asyncio."""

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """See asyncio."""

    def add_reader(self, fd: int, callback: Callback) -> object:
        """Call whenever there is something to read, or an end, or an error; in place of a callback before it."""

    def remove_reader(self, fd: int) -> object:
        """No longer. Call it before the socket is closed."""

    def add_writer(self, fd: int, callback: Callback) -> object:
        """Call whenever there is room to write, or an error; in place of a callback before it."""

    def remove_writer(self, fd: int) -> object:
        """No longer. Call it before the socket is closed."""


class Poller:
    """A Loop on top of asyncio's. A callback may be called although nothing is ready."""

    __slots__ = (
        "_epoll",
        "_fresh",
        "_loop",
        "_readers",
        "_steps",
        "_writers",
        "call_at",
        "call_later",
        "call_soon",
        "time",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time = loop.time
        self.call_soon = loop.call_soon
        self.call_later = loop.call_later
        self.call_at = loop.call_at
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._fresh: set[int] = set()  # descriptors watched since sockets were last asked for
        self._steps: list[Callback] | None = None  # to be taken when all that is ready has had its turn
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._dispatch)

    def add_reader(self, fd: int, callback: Callback) -> None:
        """See Loop."""
        readers = self._readers
        if fd not in readers:
            if fd in self._writers:
                self._epoll.modify(fd, _IN | _OUT)
            else:
                self._epoll.register(fd, _IN)
                self._fresh.add(fd)
        readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        """See Loop."""
        if self._readers.pop(fd, None) is not None:
            if fd in self._writers:
                self._epoll.modify(fd, _OUT)
            else:
                self._epoll.unregister(fd)

    def add_writer(self, fd: int, callback: Callback) -> None:
        """See Loop."""
        writers = self._writers
        if fd not in writers:
            if fd in self._readers:
                self._epoll.modify(fd, _IN | _OUT)
            else:
                self._epoll.register(fd, _OUT)
                self._fresh.add(fd)
        writers[fd] = callback

    def remove_writer(self, fd: int) -> None:
        """See Loop."""
        if self._writers.pop(fd, None) is not None:
            if fd in self._readers:
                self._epoll.modify(fd, _IN)
            else:
                self._epoll.unregister(fd)

    def next_step(self, callback: Callback) -> None:
        """Call when all other sockets that are ready now have come as far; at once, outside of a socket's callback.

        Nothing else happens meanwhile: no timer is due, and no socket is asked for.
        """
        if self._steps is None:
            callback()
        else:
            self._steps.append(callback)

    def _dispatch(self) -> None:
        readers, writers, fresh = self._readers, self._writers, self._fresh
        for _ in range(ROUNDS):
            ready = self._epoll.poll(0, AT_ONCE)
            if not ready:
                return
            fresh.clear()
            self._steps = []
            for fd, events in ready:
                if fd in fresh:  # what was ready is closed, and this a new socket with its number
                    continue
                try:
                    if events != _OUT and (callback := readers.get(fd)) is not None:
                        callback()
                    if events != _IN and (callback := writers.get(fd)) is not None and fd not in fresh:
                        callback()
                except Exception as error:  # one connection's trouble is none of the others'
                    self._report(error)
            self._take_steps()

    def _take_steps(self) -> None:
        while steps := self._steps:
            self._steps = []
            for step in steps:
                try:
                    step()
                except Exception as error:
                    self._report(error)
        self._steps = None

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "Error in a socket's callback", "exception": error})
