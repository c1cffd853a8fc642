"""TLS for one connection, at the server's end or the client's, as bytes in and bytes out.

How it works. OpenSSL reads from one memory buffer and writes to another; no socket is in sight. What the peer sent
goes in by `receive` or `decode`; `handshake` or `decode` makes OpenSSL work on it; and after *every* call, the caller
sends what `output` gives, for OpenSSL may answer at any time: alerts, tickets, key updates. `encode` and `close` give
their ciphertext themselves.

OpenSSL's "want read" is the only retry rule: it means that the engine needs more bytes from the peer, and it never
means an error. There is no "want write": a memory buffer takes everything.

An end of the peer's TCP stream is not an end of TLS: only close_notify is (RFC 8446 section 6.1). `ended` says that
one has come; a stream that stops without it was cut short, and the caller must not pass that on as a clean end.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography import x509
from OpenSSL import SSL

# SSL_session_reused has no public binding.
from OpenSSL._util import lib as _lib

from proxy.errors import HandshakeError, handshake_error
from proxy.layer import Buffer

_RECORD = 16384  # plaintext bytes in a TLS record at most
MAX_NAME = 256  # characters of a peer's name that anybody is told
RECORDS_AT_ONCE = 256  # decoded in one go; a peer that sends a byte in each gives as much work as it likes
_OVERHEAD = 64  # ciphertext bytes a record adds at most: header, explicit nonce or IV, MAC, padding
_FLIGHT = 8192  # bytes asked for when OpenSSL may have something to say: a server flight with a usual chain


class Negotiated(NamedTuple):
    """What a finished handshake agreed on."""

    version: str  # "TLSv1.3"
    cipher: str  # "TLS_AES_128_GCM_SHA256"
    group: str  # "X25519MLKEM768"; "" where there was no key exchange of that kind
    alpn: str  # "" without ALPN
    resumed: bool


class TlsError(Exception):
    """The peer broke TLS after the handshake."""


class TlsEngine:
    """One end of one TLS connection; a proxy.layer.Layer once the handshake is done."""

    __slots__ = ("_connection", "_front", "ended", "more")

    marks_end = True

    def __init__(self, connection: SSL.Connection, front: SSL.Context) -> None:
        """Use `accepting` or `connecting`."""
        # pyOpenSSL frees the SNI callback with the last reference to its context, and `set_context` drops the
        # connection's own; after a HelloRetryRequest OpenSSL calls it once more.
        self._front = front
        self._connection = connection
        self.ended = False
        self.more = False

    @classmethod
    def accepting(cls, front: SSL.Context, certificate: SSL.Context) -> TlsEngine:
        """The server's end, on a front context, serving a certificate's context."""
        connection = SSL.Connection(front, None)
        connection.set_app_data(certificate)
        connection.set_accept_state()
        return cls(connection, front)

    @classmethod
    def connecting(cls, context: SSL.Context, server_name: str | None, app_data: object = None) -> TlsEngine:
        """The client's end. `server_name` is sent by SNI; None: nothing is. `app_data`: for callbacks."""
        connection = SSL.Connection(context, None)
        connection.set_app_data(app_data)
        if server_name is not None:
            connection.set_tlsext_host_name(server_name.encode())
        connection.set_connect_state()
        return cls(connection, context)

    def receive(self, data: Buffer) -> None:
        """Hand in bytes from the peer."""
        self._connection.bio_write(data)

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done. Raises HandshakeError."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.SysCallError as error:
            raise HandshakeError("disconnected", str(error)) from None
        except SSL.Error as error:
            raise handshake_error(error.args[0] if error.args else []) from None
        return True

    def decode(self, data: Buffer) -> bytes:
        """The plaintext that has come, with `data` from the peer; sets `ended` at a close_notify. Raises TlsError.

        Out of RECORDS_AT_ONCE records at most: `more` says that there may be others.
        """
        if data:
            self._connection.bio_write(data)
        recv = self._connection.recv
        chunks: list[bytes] = []
        self.more = False
        try:
            for _ in range(RECORDS_AT_ONCE):
                chunks.append(recv(_RECORD))
            self.more = True
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            raise TlsError(str(error.args[0] if error.args else error)) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def output(self) -> bytes:
        """Bytes for the peer that OpenSSL has ready; empty when there are none."""
        return self._drain(_FLIGHT)

    def encode(self, data: Buffer) -> bytes:
        """Encrypt `data` whole, and give the bytes for the peer. Raises TlsError."""
        size = len(data)
        try:
            self._connection.send(data)
        except SSL.Error as error:
            raise TlsError(str(error)) from None
        return self._drain(size + (size // _RECORD + 1) * _OVERHEAD)

    def close(self) -> bytes:
        """End our direction with a close_notify, and give the bytes for the peer. Reading goes on working."""
        try:
            self._connection.shutdown()
        except SSL.Error:
            return b""
        return self.output()

    def negotiated(self) -> Negotiated:
        """What the finished handshake agreed on."""
        connection = self._connection
        return Negotiated(
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            group=connection.get_group_name() or "",
            alpn=connection.get_alpn_proto_negotiated().decode("ascii", "replace"),
            resumed=_lib.SSL_session_reused(connection._ssl) == 1,
        )

    def peer_name(self) -> str | None:
        """The common name in the certificate that the peer showed and that was verified; "" without a legible one.

        None when it showed none.
        """
        try:
            certificate = self._connection.get_peer_certificate(as_cryptography=True)
            if certificate is None:
                return None
            names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return str(names[-1].value)[:MAX_NAME] if names else ""
        except Exception:  # OpenSSL verifies certificates whose names the parser finds malformed, each in its own way
            return ""

    def _drain(self, expected: int) -> bytes:
        """Read what OpenSSL wrote. Asks for about what there is: pyOpenSSL allocates what it is asked for."""
        data = b""
        try:
            while len(data) % expected == 0:
                data += self._connection.bio_read(expected)
        except SSL.WantReadError:
            pass
        return data
