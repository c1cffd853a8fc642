"""A leg of a relay on which TLS is spoken."""

from __future__ import annotations

import asyncio
import socket

from proxy.hub import Hub
from proxy.layer import Buffer
from proxy.leg import Leg
from proxy.tls_engine import TlsEngine, TlsError


class TlsLeg(Leg):
    """Decodes what comes, and encodes what goes. After every call, what the engine itself has to say is sent."""

    __slots__ = ("_engine",)

    marks_end = True

    def __init__(
        self, hub: Hub, loop: asyncio.AbstractEventLoop, sock: socket.socket, buffer: memoryview, engine: TlsEngine
    ) -> None:
        super().__init__(hub, loop, sock, buffer)
        self._engine = engine

    def start(self) -> None:
        """See Leg.start. What the engine holds already comes first."""
        super().start()
        if self._engine.more:
            self._take_in(b"")

    def deliver(self, stream: Buffer) -> None:
        """See Leg.deliver."""
        if not self.send(self._engine.encode(stream)):
            self._blocked()

    def finish(self) -> None:
        """See Leg.finish: close_notify, then FIN."""
        self.give(self._engine.close())
        self.cut_short()

    def slim(self) -> None:
        """See Leg.slim."""
        if self._engine.grown:
            self._engine.slim()

    def close(self, *, abruptly: bool) -> None:
        """See Leg.close."""
        super().close(abruptly=abruptly)
        self._engine.free()

    def _take_in(self, data: Buffer) -> None:
        engine = self._engine
        try:
            stream = engine.decode(data)
        except TlsError:
            self.give(engine.output())
            if not self._hub.over:
                self._hub.broken(self)
            return
        if engine.owes:
            self.give(engine.output())
        if stream and not self._hub.over:
            super()._take_in(stream)
        if self._hub.over:
            return
        if engine.ended:
            self.end()
        elif engine.more:  # others have their turn first
            self._loop.remove_reader(self.fd)
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take in what was left over, unless the other leg is blocked: then it is taken in once that has drained."""
        if self._hub.over or self.other.blocked:
            return
        if self._engine.more:
            self._take_in(b"")
        if not (self._hub.over or self._engine.more):
            super()._go_on()
