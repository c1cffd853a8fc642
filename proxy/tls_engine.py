"""TLS for one connection, at the server's end or the client's, as bytes in and bytes out.

How it works. OpenSSL reads from one memory buffer and writes to another; no socket is in sight. What the peer sent
goes in by `receive` or `decode`; `handshake` or `decode` makes OpenSSL work on it; and after *every* call, the caller
sends what `output` gives, for OpenSSL may answer at any time: alerts, tickets, key updates. `encode` and `close` give
their ciphertext themselves.

OpenSSL's "want read" is the only retry rule: it means that the engine needs more bytes from the peer, and it never
means an error. There is no "want write": a memory buffer takes everything.

An end of the peer's TCP stream is not an end of TLS: only close_notify is (RFC 8446 section 6.1). `ended` says that
one has come; a stream that stops without it was cut short, and the caller must not pass that on as a clean end.

What it costs. OpenSSL is called as directly as Python can: pyOpenSSL's connections cost a tenth of a handshake in
objects and exceptions. Plaintext and ciphertext come out in two buffers that all engines of the process share, so no
bytes object is made, and an idle connection owns neither. What a method gives is therefore good until an engine is
called again, this one or another: send it or copy it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from cryptography import x509
from OpenSSL import SSL, crypto

# The functions that pyOpenSSL itself calls, and their error queue; pinned with it.
from OpenSSL._util import exception_from_error_queue
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from proxy.errors import HandshakeError, handshake_error
from proxy.layer import Buffer

MAX_NAME = 256  # characters of a peer's name that anybody is told
RECORDS_AT_ONCE = 256  # decoded in one go; a peer that sends a byte in each gives as much work as it likes
BUFFER_SIZE = 320 << 10  # bytes that come out at once: a relay's read, and what TLS adds to it
LARGE = 16 << 10  # bytes
RECORD = 16384  # plaintext bytes in a TLS record at most
_WANT_READ: int = _lib.SSL_ERROR_WANT_READ
_ZERO_RETURN: int = _lib.SSL_ERROR_ZERO_RETURN

_VERSIONS = {0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
Pointer = Any  # cffi's

# Looked up once: each is called for every connection, or every read.
_BIO_get_mem_data = _lib.BIO_get_mem_data
_BIO_new = _lib.BIO_new
_BIO_read = _lib.BIO_read
_BIO_s_mem = _lib.BIO_s_mem
_BIO_write = _lib.BIO_write
_SSL_do_handshake = _lib.SSL_do_handshake
_SSL_read = _lib.SSL_read
_SSL_write = _lib.SSL_write
_from_buffer = _ffi.from_buffer


# Where OpenSSL puts what comes out, and the same for C.
_for_plaintext, _for_ciphertext = bytearray(BUFFER_SIZE), bytearray(BUFFER_SIZE)
plaintext, _ciphertext = memoryview(_for_plaintext), memoryview(_for_ciphertext)
# Not of the views: a view that C holds, met by the garbage collector at the interpreter's end, is a segmentation fault.
plaintext_at: Pointer = _ffi.from_buffer(_for_plaintext)
_records_at = [plaintext_at + place for place in range(RECORD, BUFFER_SIZE, RECORD)]  # behind one full record, two...
_ciphertext_at: Pointer = _ffi.from_buffer(_for_ciphertext)
_NULL: Pointer = _ffi.NULL


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

    __slots__ = ("_from_peer", "_kept", "_ssl", "_to_peer", "ended", "grown", "more", "owes")

    marks_end = True

    def __init__(self, ssl: Pointer, from_peer: Pointer, to_peer: Pointer, kept: object = None) -> None:
        """Use `accepting` or `connecting`. `kept` lives as long as the engine does."""
        self._ssl = ssl
        self._from_peer = from_peer  # None: there is nothing in it, and nothing can be put in
        self._to_peer = to_peer
        self._kept = kept
        self.ended = False
        self.more = self.owes = self.grown = False

    @classmethod
    def accepting(cls, front: SSL.Context, certificate: SSL.Context) -> Self:
        """The server's end, on a front context, serving a certificate's context."""
        ssl = _ffi.gc(_lib.SSL_new(front._context), _lib.SSL_free)
        _lib.SSL_set_SSL_CTX(ssl, certificate._context)
        from_peer, to_peer = _BIO_new(_BIO_s_mem()), _BIO_new(_BIO_s_mem())
        _lib.SSL_set_bio(ssl, from_peer, to_peer)  # it frees them
        _lib.SSL_set_accept_state(ssl)
        return cls(ssl, from_peer, to_peer)

    @classmethod
    def connecting(cls, context: SSL.Context, server_name: str | None, app_data: object = None) -> TlsEngine:
        """The client's end. `server_name` is sent by SNI; None: nothing is. `app_data`: for callbacks."""
        connection = SSL.Connection(context, None)
        connection.set_app_data(app_data)
        if server_name is not None:
            connection.set_tlsext_host_name(server_name.encode())
        connection.set_connect_state()
        return cls(connection._ssl, connection._into_ssl, connection._from_ssl, connection)

    def receive(self, data: Buffer) -> None:
        """Hand in bytes from the peer."""
        if self._from_peer is None:
            self._read_from(_BIO_new(_BIO_s_mem()))
        _BIO_write(self._from_peer, _from_buffer(data), len(data))

    def handshake(self, data: Buffer = b"") -> bool:
        """Go on with the handshake, with `data` from the peer; True when it is done. Raises HandshakeError."""
        if data:
            _BIO_write(self._from_peer, _from_buffer(data), len(data))
        result = _SSL_do_handshake(self._ssl)
        if result == 1:
            self.more = self.grown = True  # the peer may have said more already; what the handshake took is kept
            return True
        if _lib.SSL_get_error(self._ssl, result) == _WANT_READ:
            return False
        errors = queued_errors()
        raise handshake_error(errors) if errors else HandshakeError("disconnected")

    def decode(self, data: Buffer) -> Buffer:
        """The plaintext that has come, with `data` from the peer; sets `ended` at a close_notify. Raises TlsError.

        Out of RECORDS_AT_ONCE records at most, or a buffer full: `more` says that there may be others. `owes` says
        whether there is output.
        """
        if len(data) >= LARGE and not self.more:
            return self._decode_in_place(data)
        if data:
            self.receive(data)
        size = _SSL_read(self._ssl, plaintext_at, BUFFER_SIZE)
        if not 0 < size < RECORD or _BIO_get_mem_data(self._from_peer, _NULL):
            return self._decode_on(size)
        # OpenSSL reads a record at a time: where nothing is left to be read, there is no other.
        self.more = False
        self.owes = _BIO_get_mem_data(self._to_peer, _NULL) > 0
        return plaintext[:size]

    def _decode_in_place(self, data: Buffer) -> Buffer:
        """Read much where it lies: to copy it costs a tenth, and the copy would stay with the connection."""
        in_place = _lib.BIO_new_mem_buf(_from_buffer(data), len(data))
        _lib.BIO_set_mem_eof_return(in_place, -1)  # the end of what there is: "want read", not the stream's end
        self._read_from(in_place)
        try:
            return self._decode_on(_SSL_read(self._ssl, plaintext_at, BUFFER_SIZE))
        finally:
            rest = self._rest() if self.more else b""
            self._from_peer = None  # OpenSSL goes on finding it empty
            if rest:
                self.receive(rest)

    def _decode_on(self, result: int) -> Buffer:
        """Go on after the first SSL_read, which returned `result`, until there is no more, or there may be too much."""
        ssl, read, at, size, records, full = self._ssl, _SSL_read, plaintext_at, 0, 0, BUFFER_SIZE - RECORD
        self.more = False
        for behind in _records_at:  # where much comes, records are full
            if result != RECORD:
                break
            size += RECORD
            records += 1
            result = read(ssl, behind, RECORD)
        while result > 0 or self._goes_on(result):
            size += max(result, 0)
            records += 1
            if size > full or records == RECORDS_AT_ONCE:
                self.more = True
                break
            result = read(ssl, at + size, BUFFER_SIZE - size)
        self.owes = _BIO_get_mem_data(self._to_peer, _NULL) > 0
        return plaintext[:size]

    def _goes_on(self, result: int) -> bool:
        """Whether there is more to be read after an SSL_read that gave nothing of the stream. Raises TlsError.

        OpenSSL stops at each record that is TLS's own (see contexts), so that nobody can have it read such for ever.
        """
        code = _lib.SSL_get_error(self._ssl, result)
        if code == _ZERO_RETURN:
            self.ended = True
            return False
        if code != _WANT_READ:
            raise TlsError(words_of(queued_errors()))
        return self._from_peer is not None and _BIO_get_mem_data(self._from_peer, _NULL) > 0

    def output(self) -> Buffer:
        """Bytes for the peer that OpenSSL has ready; empty when there are none."""
        size = _BIO_read(self._to_peer, _ciphertext_at, BUFFER_SIZE)
        if size <= 0:
            return b""
        if size < BUFFER_SIZE:
            return _ciphertext[:size]
        return bytes(_ciphertext) + bytes(self.output())

    def encode(self, data: Buffer) -> Buffer:
        """Encrypt `data` whole, and give the bytes for the peer. Raises TlsError."""
        if _SSL_write(self._ssl, _from_buffer(data), len(data)) != len(data):
            raise TlsError(words_of(queued_errors()))
        if len(data) >= LARGE:
            self.grown = True
            return self.output()
        return _ciphertext[: _BIO_read(self._to_peer, _ciphertext_at, BUFFER_SIZE)]

    def close(self) -> Buffer:
        """End our direction with a close_notify, and give the bytes for the peer. Reading goes on working."""
        if _lib.SSL_shutdown(self._ssl) < 0:
            queued_errors()
            return b""
        return self.output()

    @property
    def version(self) -> str:
        """The version that the finished handshake agreed on: "TLSv1.3"."""
        return _VERSIONS[_lib.SSL_version(self._ssl)]

    @property
    def resumed(self) -> bool:
        """Whether the handshake resumed a session."""
        return bool(_lib.SSL_session_reused(self._ssl))

    def free(self) -> None:
        """Give OpenSSL's part back now, some 30 KB, rather than when Python gets to it. Nothing works afterwards."""
        if self._ssl is not None:
            _ffi.release(self._ssl)
            self._ssl = self._from_peer = self._to_peer = self._kept = None

    def negotiated(self) -> Negotiated:
        """What the finished handshake agreed on."""
        ssl = self._ssl
        return Negotiated(
            version=self.version,
            cipher=_text(_lib.SSL_CIPHER_get_name(_lib.SSL_get_current_cipher(ssl))),
            group=_text(_lib.SSL_get0_group_name(ssl)),
            alpn=_chosen_protocol(ssl),
            resumed=self.resumed,
        )

    def peer_name(self) -> str | None:
        """The common name in the certificate that the peer showed and that was verified; "" without a legible one.

        None when it showed none.
        """
        shown = _lib.SSL_get_peer_certificate(self._ssl)
        if shown == _ffi.NULL:
            return None
        try:
            certificate = crypto.X509._from_raw_x509_ptr(shown).to_cryptography()
            names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return str(names[-1].value)[:MAX_NAME] if names else ""
        except Exception:  # OpenSSL verifies certificates whose names the parser finds malformed, each in its own way
            return ""

    def slim(self) -> None:
        """Give back the memory that what was received and sent has left behind. Ask for `output` before."""
        self.grown = False
        rest = self._rest()
        self._to_peer = _BIO_new(_BIO_s_mem())
        self._read_from(_BIO_new(_BIO_s_mem()))
        if rest:
            self.receive(rest)

    def _read_from(self, from_peer: Pointer) -> None:
        """Let OpenSSL read from somewhere else, and free what it read from."""
        _lib.SSL_set_bio(self._ssl, from_peer, self._to_peer)
        self._from_peer = from_peer

    def _rest(self) -> bytes:
        """What the peer has sent and OpenSSL has not read yet."""
        if self._from_peer is None:
            return b""
        size = _BIO_read(self._from_peer, _ciphertext_at, BUFFER_SIZE)
        return bytes(_ciphertext[:size]) if size > 0 else b""


def queued_errors() -> list[tuple[str, str, str]]:
    """What OpenSSL has to say of the call that failed: library, function and reason of each. None is left behind."""
    try:
        exception_from_error_queue(SSL.Error)  # raises always
    except SSL.Error as error:
        return list(error.args[0])


def words_of(errors: list[tuple[str, str, str]]) -> str:
    return "; ".join(reason for _, _, reason in errors) or "the connection cannot be used any more"


def _text(pointer: Pointer) -> str:
    return "" if pointer == _ffi.NULL else _ffi.string(pointer).decode()


def _chosen_protocol(ssl: Pointer) -> str:
    data, size = _ffi.new("unsigned char **"), _ffi.new("unsigned int *")
    _lib.SSL_get0_alpn_selected(ssl, data, size)
    return _ffi.buffer(data[0], size[0])[:].decode("ascii", "replace") if size[0] else ""
