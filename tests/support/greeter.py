"""Backends that say a word to whoever connects, and end the connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Greeter:
    """Listens on loopback (`port`), says `word`, and ends."""

    def __init__(self, word: str) -> None:
        self._word = word.encode()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._greet, daemon=True)

    def __enter__(self) -> Greeter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _greet(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(self._word)
