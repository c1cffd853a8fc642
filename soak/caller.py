"""A client's tools: connections, in the clear and with TLS, that write down in a Visit what they see."""

from __future__ import annotations

import hashlib
import random
import socket
import ssl
import time
from contextlib import suppress

from soak import mail
from soak.record import Visit
from tests.support.tls_client import context

PATIENCE = 30.0  # seconds for anything
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
REQUEST = b"GET %b HTTP/1.1\r\nHost: soak.test\r\n%b\r\n"
LAST = b"Connection: close\r\n"


class Surprise(Exception):  # noqa: N818 - not always an error, but never what should be
    """What came is not what should have come."""


class Caller:
    """One thread's; it remembers its sessions."""

    def __init__(self, ports: dict[str, int], roots: dict[str, str], chance: random.Random) -> None:
        self.chance = chance
        self._ports = ports
        self._contexts = {
            (root, name): context(version=version, authority=pem)
            for root, pem in roots.items()
            for name, version in VERSIONS.items()
        }
        self._sessions: dict[tuple[str, str, str], ssl.SSLSession] = {}

    def context(self, root: str, version: str) -> ssl.SSLContext:
        """One that trusts this root, and speaks this version alone."""
        return self._contexts[root, version]

    def connect(self, visit: Visit) -> socket.socket:
        """A connection to the visit's listener, in the clear."""
        sock = socket.create_connection(("127.0.0.1", self._ports[visit.listener]), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def secure(
        self, visit: Visit, name: str, *, root: str = "front", version: str = "", resume: bool = False
    ) -> ssl.SSLSocket:
        """Connect, and shake hands."""
        began = time.perf_counter()
        tls = self.shake(visit, self.connect(visit), name, root=root, version=version, resume=resume)
        visit.handshake = time.perf_counter() - began
        return tls

    def shake(
        self,
        visit: Visit,
        sock: socket.socket,
        name: str,
        *,
        root: str = "front",
        version: str = "",
        resume: bool = False,
    ) -> ssl.SSLSocket:
        """Shake hands on a connection, which is closed where that fails. Raises OSError."""
        version = version or self.chance.choice(list(VERSIONS))
        key = visit.listener, name, version
        visit.name = name
        try:
            using = self._contexts[root, version]
            session = self._sessions.get(key) if resume else None
            tls = using.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False, session=session)
        except OSError:
            sock.close()
            raise
        visit.version, visit.resumed = version, bool(tls.session_reused)
        if root == "front" and not visit.resumed:
            leaf = tls.getpeercert(binary_form=True)
            visit.fingerprint = hashlib.sha256(leaf or b"").hexdigest()
        return tls

    def remember(self, visit: Visit, tls: ssl.SSLSocket) -> None:
        """Keep the session, where there is one; with TLS 1.3 something has to be read before."""
        if tls.session is not None and tls.session.has_ticket:
            self._sessions[visit.listener, visit.name, visit.version] = tls.session

    def greeted(self, visit: Visit) -> socket.socket:
        """A connection to a mail listener with STARTTLS, its greeting read."""
        sock = self.connect(visit)
        until(sock, mail.WORDS[visit.listener].greeting_ends)
        return sock

    def hello(self, name: str) -> bytes:
        """A ClientHello."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._contexts["front", "TLSv1.3"].wrap_bio(incoming, outgoing, server_hostname=name)
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()


def until(sock: socket.socket, end: bytes) -> bytes:
    """What comes up to these bytes; nothing may come behind them."""
    data = b""
    while not data.endswith(end):
        chunk = sock.recv(4096)
        if not chunk:
            raise Surprise(f"it ended after {data[-60:]!r}")
        data += chunk
    return data


def answer(sock: socket.socket, *, pause: float = 0.0) -> bytearray:
    """The body of one HTTP answer of status 200. With `pause`, its reader takes a rest after the first bytes."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(1 << 16)
        if not chunk:
            raise Surprise(f"it ended after {bytes(data[-60:])!r}")
        data += chunk
    if pause:
        time.sleep(pause)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Surprise(f"answered {bytes(head[:40])!r}")
    size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    while len(body) < size:
        chunk = sock.recv(1 << 18)
        if not chunk:
            raise Surprise(f"the answer ended after {len(body)} of {size} bytes")
        body += chunk
    if len(body) > size:
        raise Surprise(f"{len(body) - size} bytes more than the answer has")
    return body


def ended(sock: socket.socket) -> None:
    """Wait for the stream's clean end, and answer it with our own."""
    if sock.recv(1):
        raise Surprise("more than was asked for")
    part(sock)


def part(sock: socket.socket) -> None:
    """End the stream cleanly, wait for the peer's end, and close."""
    with sock:
        if isinstance(sock, ssl.SSLSocket):
            sock = sock.unwrap()
        with suppress(OSError), sock:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                pass


def rest(sock: socket.socket) -> bytes:
    """All that comes until the connection ends, however it does; then it is closed."""
    data = b""
    with sock, suppress(ConnectionError, ssl.SSLError):
        while chunk := sock.recv(1 << 16):
            data += chunk
    return data


def raw_send(tls: ssl.SSLSocket, data: bytes) -> None:
    """Send beneath TLS."""
    socket.socket.sendall(tls, data)
