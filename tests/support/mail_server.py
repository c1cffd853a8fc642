"""A mail server for end-to-end tests: it greets, answers by a table, and takes down what each client said."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from types import TracebackType

from tests.support.tls_client import TIMEOUT

GREETINGS = {
    "smtp": b"220 mx.internal ESMTP Played\r\n",
    "imap": b"* OK [CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN] Played ready\r\n",
    "pop3": b"+OK Played ready\r\n",
    "sieve": b'"IMPLEMENTATION" "Played"\r\n"SASL" "PLAIN"\r\n"SIEVE" "fileinto"\r\nOK "ready"\r\n',
}
EHLO = b"250-mx.internal\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n"
ANSWERS: dict[str, dict[bytes, bytes]] = {
    "smtp": {b"EHLO": EHLO, b"QUIT": b"221 bye\r\n"},
    "imap": {b"C": b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN\r\nC OK\r\n", b"L": b"* BYE\r\nL OK\r\n"},
    "pop3": {b"CAPA": b"+OK\r\nTOP\r\nSASL PLAIN\r\n.\r\n", b"QUIT": b"+OK\r\n"},
    "sieve": {b"CAPABILITY": GREETINGS["sieve"], b"LOGOUT": b"OK\r\n"},
}


class MailServer:
    """Listens on loopback (`port`). `sessions` holds what each connection has said so far."""

    def __init__(
        self, protocol: str, *, greeting: bytes | None = None, answers: Mapping[bytes, bytes] | None = None
    ) -> None:
        """`answers`: by the first word of a line; a line without one is answered with itself behind "heard "."""
        self._greeting = GREETINGS[protocol] if greeting is None else greeting
        self._answers = {**ANSWERS[protocol], **(answers or {})}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self.sessions: list[bytearray] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> MailServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def heard(self, words: bytes) -> list[bytes]:
        """What those connections said in which these words came."""
        return [bytes(one) for one in self.sessions if words in one]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                connection.settimeout(TIMEOUT)
                self.sessions.append(bytearray())
                threading.Thread(target=self._serve, args=(connection, self.sessions[-1]), daemon=True).start()

    def _serve(self, connection: socket.socket, said: bytearray) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(self._greeting)
            pending = b""
            while data := connection.recv(4096):
                said += data
                *lines, pending = (pending + data).split(b"\r\n")
                for line in lines:
                    word = line.partition(b" ")[0].upper()
                    connection.sendall(self._answers.get(word, b"heard " + line + b"\r\n"))
