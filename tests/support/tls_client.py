"""TLS clients for end-to-end tests: what a server shows, over real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

TIMEOUT = 10.0


class Seen(NamedTuple):
    """What a client saw in a handshake."""

    fingerprint: str  # SHA-256 of the leaf, hexadecimal
    version: str
    cipher: str
    alpn: str | None
    resumed: bool


def context(
    *,
    alpn: tuple[str, ...] = (),
    version: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
    authority: str | None = None,
) -> ssl.SSLContext:
    """A client context; verifies against `authority` (PEM text) when given, else not at all."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_verify_locations(cadata=authority)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if ciphers is not None:
        made.set_ciphers(ciphers)
    return made


@contextlib.contextmanager
def connect(
    port: int,
    name: str | None = None,
    *,
    using: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
    host: str = "127.0.0.1",
) -> Iterator[ssl.SSLSocket]:
    """A TLS connection, handshake done; closed at the end of the block without ceremony."""
    with socket.create_connection((host, port), timeout=TIMEOUT) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with (using or context()).wrap_socket(raw, server_hostname=name, session=session) as tls:
            yield tls


def see(tls: ssl.SSLSocket) -> Seen:
    """What this connection's handshake showed."""
    leaf = tls.getpeercert(binary_form=True)
    assert leaf is not None
    cipher = tls.cipher()
    return Seen(
        hashlib.sha256(leaf).hexdigest(),
        tls.version() or "",
        cipher[0] if cipher else "",
        tls.selected_alpn_protocol(),
        bool(tls.session_reused),
    )


def shown(port: int, name: str | None = None, *, using: ssl.SSLContext | None = None) -> Seen:
    """Handshake, look, and go away."""
    with connect(port, name, using=using) as tls:
        seen = see(tls)
        with contextlib.suppress(OSError):
            tls.unwrap()
    return seen


def request(tls: ssl.SSLSocket, path: str = "/", host: str = "test") -> bytes:
    """One HTTP/1.1 request with `Connection: close`; everything that comes back."""
    tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = bytearray()
    while chunk := tls.recv(65536):
        answer += chunk
    return bytes(answer)
