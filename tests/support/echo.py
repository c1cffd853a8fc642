"""A backend that echoes, in a thread of the test: what arrives goes back, an end is answered with an end."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class EchoServer:
    """Listens on loopback (`port`, 0: a free one), or on a Unix socket. `connections` counts those accepted."""

    def __init__(self, path: str | None = None, port: int = 0) -> None:
        if path is None:
            self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
            self.port = self._socket.getsockname()[1]
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(path)
            self._socket.listen(128)
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> EchoServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
