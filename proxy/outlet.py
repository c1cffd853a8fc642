"""The sending half of a non-blocking socket: what the kernel would not take yet, and whether an end follows it.

An outlet that holds anything is *blocked*, and whoever feeds it stops reading its source until it is drained: that is
the whole of backpressure. So an outlet never holds more than one read's worth of data.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from enum import Enum
from socket import SocketType

from proxy.layer import Buffer
from proxy.pipe import Pipe
from proxy.poller import Loop


class OutletStage(Enum):
    """OPEN takes data; FINISHING sends what it holds and then FIN; FINISHED has sent its FIN."""

    OPEN = "open"
    FINISHING = "finishing"
    FINISHED = "finished"


class Outlet(ABC):
    """Sends to one socket. A kind of outlet says what it does when it is `drained`, and when a send has failed."""

    __slots__ = ("_held", "_loop", "fd", "socket", "stage")

    def __init__(self, loop: Loop, sock: SocketType) -> None:
        self._loop = loop
        self._held: memoryview | Pipe | None = None
        self.socket = sock
        self.fd = sock.fileno()
        self.stage = OutletStage.OPEN

    @property
    def blocked(self) -> bool:
        """Whether something is still to be sent."""
        return self._held is not None

    @property
    def held(self) -> int:
        """Bytes that are still to be sent."""
        return 0 if self._held is None else len(self._held)

    @property
    def unsent(self) -> bytes:
        """What is still to be sent, where it is no pipe's."""
        return bytes(self._held) if isinstance(self._held, memoryview) else b""

    @abstractmethod
    def drained(self) -> None:
        """The outlet is empty again after it was blocked."""

    @abstractmethod
    def send_failed(self) -> None:
        """The socket takes no more."""

    def send(self, data: Buffer) -> bool:
        """Send `data` (not empty), holding what the kernel does not take now: a copy, where it is a view.

        False when something is held, or the socket takes no more.
        """
        if self._held is not None:
            assert isinstance(self._held, memoryview)
            self._held = memoryview(bytes(self._held) + data)
            return False
        try:
            taken = self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError:
            self.send_failed()
            return False
        if taken == len(data):
            return True
        rest = memoryview(data)[taken:]
        self._held = memoryview(bytes(rest)) if isinstance(data, memoryview) else rest
        self._loop.add_writer(self.fd, self._on_writable)
        return False

    def move(self, pipe: Pipe) -> bool:
        """Send what is in a pipe, holding the pipe while there is something left; it stays its owner's to close.

        Only while nothing is held. False as for `send`.
        """
        assert self._held is None
        try:
            pipe.drain(self.fd)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.send_failed()
            return False
        if not pipe.size:
            return True
        self._held = pipe
        self._loop.add_writer(self.fd, self._on_writable)
        return False

    def shut(self) -> None:
        """Send FIN behind everything sent so far."""
        if self.stage is OutletStage.OPEN:
            self.stage = OutletStage.FINISHING
            if self._held is None:
                self._send_fin()

    def drop(self) -> None:
        """Forget what is held; the socket itself is closed by its owner."""
        if self._held is not None:
            self._held = None
            self._loop.remove_writer(self.fd)

    def _on_writable(self) -> None:
        held = self._held
        assert held is not None
        try:
            taken = held.drain(self.fd) if isinstance(held, Pipe) else self.socket.send(held)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.send_failed()
            return
        if isinstance(held, memoryview):
            held = held[taken:]
            self._held = held
        if len(held):
            return
        self._held = None
        self._loop.remove_writer(self.fd)
        if self.stage is OutletStage.FINISHING:
            self._send_fin()
        self.drained()

    def _send_fin(self) -> None:
        self.stage = OutletStage.FINISHED
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.send_failed()
