"""A TLS client on a real socket that a test drives step by step: half-closes, truncations, resets, raw bytes.

The TLS library is pyOpenSSL's, newer than the standard library's: it has X25519MLKEM768.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from OpenSSL import SSL

from proxy.leg import reset
from tests.support.backend import rest
from tests.support.engine import MemoryClient
from tests.support.tls_client import TIMEOUT

NO_ALERT = -1


class TlsSocket:
    """A connection to `port` on loopback, from the address `source` if that is given. Raises SSL.Error and OSError."""

    def __init__(
        self,
        port: int,
        name: str | None = None,
        context: SSL.Context | None = None,
        *,
        receive_buffer: int = 0,
        source: str | None = None,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.tls = MemoryClient(context, name.encode() if name is not None else None)

    def handshake(self) -> None:
        """Go through the handshake."""
        while not self.tls.handshake():
            self.socket.sendall(self.tls.output())
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("ended in the handshake")
            self.tls.receive(data)
        self.socket.sendall(self.tls.output())

    def send(self, data: bytes) -> None:
        """Encrypt and send."""
        self.socket.sendall(self.tls.write(data))

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes of plain text."""
        data = bytearray()
        while len(data) < size:
            raw = self.socket.recv(1 << 18)
            assert raw, f"ended after {len(data)} of {size} bytes"
            self.tls.receive(raw)
            data += self.tls.read()
        assert len(data) == size
        return bytes(data)

    def rest(self) -> tuple[bytes, str]:
        """All plain text until the end, and how that was: "close_notify", "FIN" without one, or "RST"."""
        raw, end = rest(self.socket)
        self.tls.receive(raw)
        data = self.tls.read()
        return data, "close_notify" if end == "FIN" and self.tls.closed else end

    def send_close_notify(self) -> None:
        """End TLS in our direction, and leave TCP open."""
        self.socket.sendall(self.tls.close())

    def finish(self) -> None:
        """Send a bare FIN, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        reset(self.socket)

    def close(self) -> None:
        """Close."""
        self.socket.close()


@contextlib.contextmanager
def opened(
    port: int,
    name: str | None = None,
    context: SSL.Context | None = None,
    *,
    receive_buffer: int = 0,
    source: str | None = None,
) -> Iterator[TlsSocket]:
    """A connection whose handshake is done; closed at the end of the block."""
    made = TlsSocket(port, name, context, receive_buffer=receive_buffer, source=source)
    try:
        made.handshake()
        yield made
    finally:
        made.close()


def exchange_raw(port: int, *chunks: bytes, finish: bool = False) -> tuple[bytes, str]:
    """Send bytes in the clear, in these segments; everything that comes back until the end, and how that was."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for chunk in chunks:
            try:
                sock.sendall(chunk)
            except (BrokenPipeError, ConnectionResetError):
                break
        if finish:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        return rest(sock)


def alert_in(answer: bytes) -> int:
    """The description of the one fatal alert that an answer in the clear consists of; NO_ALERT for no answer."""
    if not answer:
        return NO_ALERT
    assert len(answer) == 7, answer
    assert answer[0] == 21
    assert answer[3:6] == b"\0\2\2"
    return answer[6]
