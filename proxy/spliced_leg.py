"""A leg of a relay that passes bytes through as they are: where there are many, they do not come here at all."""

from __future__ import annotations

import contextlib
from socket import SocketType

from proxy.hub import Hub
from proxy.leg import Leg
from proxy.pipe import Pipe
from proxy.poller import Poller

MUCH = 32 << 10  # bytes that have come at once from which a pipe is worth its making...
LITTLE = 4 << 10  # ...and below which it is given up again


class SplicedLeg(Leg):
    """Copies like any leg while its peer says little; has a pipe, and the kernel move the bytes, while it says much."""

    __slots__ = ("_pipe",)

    def __init__(self, hub: Hub, loop: Poller, sock: SocketType, buffer: memoryview) -> None:
        super().__init__(hub, loop, sock, None, buffer)
        self._pipe: Pipe | None = None

    def close(self, *, abruptly: bool) -> None:
        """See Leg.close."""
        super().close(abruptly=abruptly)
        self._drop_pipe()

    def _readable(self) -> None:
        pipe, other = self._pipe, self.other  # which is gone when the relay is over
        if pipe is None:
            before = other.passed
            super()._readable()
            if other.passed - before >= MUCH and not self._hub.over:
                with contextlib.suppress(OSError):  # where descriptors are short, it goes on copying
                    self._pipe = Pipe()
            return
        try:
            size = pipe.fill(self.fd)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._hub.failed(self)
            return
        if size == 0:
            self._fin()
            return
        self._hub.last = self._loop.time()
        other.passed += size
        if not other.move(pipe):
            other._blocked()
        elif size < LITTLE:
            self._drop_pipe()

    def _drop_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
