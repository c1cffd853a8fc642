"""Accepting connections on one socket, several at each wake-up, within the worker's limits."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

from proxy.bare_socket import accept
from proxy.entrance import Enter
from proxy.limits import Limits
from proxy.poller import Loop
from proxy.sockets import BACKLOG
from proxy.throttle import Throttle

log = logging.getLogger("snigate.listener")

BATCH = 16  # connections begun at one wake-up: enough to keep up, few enough to be fair to those already open
COMPLAIN_EVERY = 60.0  # seconds between messages that there is no room
PAUSE = 0.1  # seconds without accepting after the worker was full, or the kernel short of descriptors or memory

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """One listening socket of one worker. Open connections do not depend on it: they are given to `enter`."""

    def __init__(self, loop: Loop, name: str, sock: socket.socket, limits: Limits, enter: Enter) -> None:
        self._loop = loop
        self._name = name
        self._socket = sock
        self._family = int(sock.family)
        self._limits = limits
        self._enter = enter
        self._resume: asyncio.TimerHandle | None = None
        self._short = False
        self._complaints = Throttle(COMPLAIN_EVERY)

    def start(self) -> None:
        """Accept from now on."""
        self._resume = None
        self._loop.add_reader(self._socket.fileno(), self._acceptable)

    def stop(self) -> None:
        """Take what has already arrived, then accept no more and close this process's copy of the socket.

        No more than what can have queued: others may accept on the same socket, and take what goes on arriving.
        """
        self._loop.remove_reader(self._socket.fileno())
        for _ in range(BACKLOG):
            if self._limits.full or not self._accept():
                break
        if self._resume is not None:
            self._resume.cancel()
        self._socket.close()

    def _acceptable(self) -> None:
        for _ in range(BATCH):
            if self._limits.full:
                self._say_full()
                self._pause()
                return
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Accept one connection; False when there is none now, or none can be taken."""
        try:
            sock, address = accept(self._socket, self._family)
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            if error.errno in _SHORTAGES:
                self._say_shortage(error)
                self._pause()
            else:
                log.error("listener %s: accept failed: %s", self._name, error)
            return False
        self._short = False
        self._enter(sock, (address[0].removeprefix("::ffff:"), address[1]))
        return True

    def _pause(self) -> None:
        if self._resume is None:
            self._loop.remove_reader(self._socket.fileno())
            self._resume = self._loop.call_later(PAUSE, self.start)

    def _say_full(self) -> None:
        if self._complaints.allows(self._loop.time()):
            log.warning(
                "listener %s: %s is reached; who connects now waits until a connection has ended",
                self._name,
                self._limits.reached,
            )

    def _say_shortage(self, error: OSError) -> None:
        if not self._short:
            self._short = True
            log.error(
                "listener %s: no further connection can be accepted now (%s); those open go on. "
                "Raise the limit of open files (ulimit -n)",
                self._name,
                os.strerror(error.errno or 0),
            )
