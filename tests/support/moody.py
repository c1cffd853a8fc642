"""A backend in changing moods: it echoes, or it cannot be reached, resets at once, or resets in the middle."""

from __future__ import annotations

import contextlib
import socket
import threading
from enum import Enum
from types import TracebackType

from proxy.leg import reset
from tests.support.ports import free_port


class Mood(Enum):
    """What it does with who connects."""

    ECHOES = "echoes"
    IS_DOWN = "is down"  # its port is closed
    RESETS = "resets"  # as soon as it has accepted
    BREAKS_OFF = "breaks off"  # echoes half of what came first, and resets


class MoodyServer:
    """On loopback (`port`), down at first. What it has accepted goes on in the mood in which it was."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mood = Mood.IS_DOWN
        self.accepted = 0
        self._listening: socket.socket | None = None
        self._thread = threading.Thread()

    def __enter__(self) -> MoodyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.be(Mood.IS_DOWN)

    def be(self, mood: Mood) -> None:
        """Change the mood. Who has connected and was not accepted is reset when it goes down."""
        self.mood = mood
        if mood is Mood.IS_DOWN and self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._thread.join()
            self._listening = None
        elif mood is not Mood.IS_DOWN and self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
            self._thread = threading.Thread(target=self._accept, args=(self._listening,), daemon=True)
            self._thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.accepted += 1
            if self.mood is Mood.RESETS:
                reset(connection)
            else:
                threading.Thread(target=_serve, args=(connection, self.mood), daemon=True).start()


def _serve(connection: socket.socket, mood: Mood) -> None:
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            if mood is Mood.BREAKS_OFF:
                connection.sendall(data[: len(data) // 2])
                reset(connection)
                return
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
