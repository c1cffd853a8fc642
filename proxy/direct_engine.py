"""The server's end of TLS on a client's socket, which OpenSSL reads and writes itself while that costs less.

DETACHED  OpenSSL has two memory buffers, as any TlsEngine, and whoever owns the socket reads and writes it. So it is
          given what has come, and no more: during a handshake, and in TLS 1.2 always, it would read on for as long as
          somebody sends what it skips, and nobody else had a turn. And much that comes is read in the fewest calls so:
          256 KB at once, where OpenSSL itself reads record by record.
DIRECT    OpenSSL has the socket. What is sent goes from the record to the socket, without a copy between; a request of
          a few kilobytes takes the fewest calls; an idle connection has no memory buffers.

It begins detached, and `attach` makes it direct; that is its owner's to call, when nothing is held for the client. It
is detached again when a whole record has come, and when the socket does not take something at once: what is left is
then `output`'s to give, and for the owner to hold. So no call ever waits, and nothing that is held can be overtaken.

Where it is detached, it is used as any TlsEngine. Where it is `direct`, `read` and `write` take the place of `decode`
and `encode`; `output` gives nothing, since all has been sent.
"""

from __future__ import annotations

from OpenSSL import SSL
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from proxy.layer import Buffer
from proxy.tls_engine import (
    BUFFER_SIZE,
    RECORD,
    Pointer,
    TlsEngine,
    TlsError,
    plaintext,
    plaintext_at,
    queued_errors,
    words_of,
)

_NULL = _ffi.NULL
_SSL_read = _lib.SSL_read
_SSL_write = _lib.SSL_write
_from_buffer = _ffi.from_buffer
_WANT_READ: int = _lib.SSL_ERROR_WANT_READ
_WANT_WRITE: int = _lib.SSL_ERROR_WANT_WRITE
_ZERO_RETURN: int = _lib.SSL_ERROR_ZERO_RETURN
_SYSCALL: int = _lib.SSL_ERROR_SYSCALL
_TLS1_3: int = SSL.TLS1_3_VERSION
_CUT_SHORT = "unexpected eof while reading"


class DirectEngine(TlsEngine):
    """See above."""

    __slots__ = ("_fd", "_may_attach", "direct")

    def __init__(self, ssl: Pointer, from_peer: Pointer, to_peer: Pointer, kept: object = None) -> None:
        """Use `serving`."""
        super().__init__(ssl, from_peer, to_peer, kept)
        self._fd = -1
        self._may_attach = self.direct = False

    @classmethod
    def serving(cls, front: SSL.Context, certificate: SSL.Context, fd: int) -> DirectEngine:
        """On a front context, with a certificate's context."""
        engine = cls.accepting(front, certificate)
        engine._fd = fd
        return engine

    def handshake(self, data: Buffer = b"") -> bool:
        """See TlsEngine.handshake."""
        done = super().handshake(data)
        if done:
            self._may_attach = _lib.SSL_version(self._ssl) == _TLS1_3
        return done

    def read(self) -> Buffer | None:
        """What has come of the stream, one record's at most; sets `ended` at a close_notify.

        None: TCP has ended, and TLS has not. Raises TlsError, and ConnectionResetError.
        """
        size = _SSL_read(self._ssl, plaintext_at, BUFFER_SIZE)
        if size > 0:
            if size == RECORD:
                self.detach()
            return plaintext[:size]
        code = _lib.SSL_get_error(self._ssl, size)
        if code == _WANT_READ:
            return b""
        if code == _ZERO_RETURN:
            self.ended = True
            return b""
        if code == _WANT_WRITE:  # an answer of TLS's own
            self.detach()
            return self.decode(b"")
        errors = queued_errors()
        if any(reason == _CUT_SHORT for _, _, reason in errors):
            return None
        raise ConnectionResetError if code == _SYSCALL else TlsError(words_of(errors))

    def write(self, data: Buffer) -> bool:
        """Send `data`, encrypted. False: it is detached now, and `output` gives what the socket did not take.

        Raises TlsError, and ConnectionResetError.
        """
        at, size = _from_buffer(data), len(data)
        result = _SSL_write(self._ssl, at, size)
        if result == size:
            return True
        code = _lib.SSL_get_error(self._ssl, result)
        if code == _WANT_WRITE:
            self.detach()
            if _SSL_write(self._ssl, at, size) == size:  # the same call again, as OpenSSL asks for
                return False
        errors = queued_errors()
        raise ConnectionResetError if code == _SYSCALL else TlsError(words_of(errors))

    def encode(self, data: Buffer) -> Buffer:
        """See TlsEngine.encode. It is detached from now on."""
        if self.direct:
            self.detach()
        return super().encode(data)

    def output(self) -> Buffer:
        """See TlsEngine.output."""
        return b"" if self.direct else super().output()

    def close(self) -> Buffer:
        """See TlsEngine.close. Raises ConnectionResetError too."""
        if not self.direct:
            return super().close()
        result = _lib.SSL_shutdown(self._ssl)
        if result >= 0:
            return b""
        code = _lib.SSL_get_error(self._ssl, result)
        if code == _WANT_WRITE:
            self.detach()
            return super().close()
        queued_errors()
        if code == _SYSCALL:
            raise ConnectionResetError
        return b""

    def slim(self) -> None:
        """See TlsEngine.slim."""
        if not self.attach():
            super().slim()

    def attach(self) -> bool:
        """Be direct, unless something is left in memory, or it is not to be; whether it is.

        Only in TLS 1.3, its handshake done, does OpenSSL read no more of a socket at once than a record of the stream,
        or a message of a few bytes: in TLS 1.2 it reads the pieces of a whole ClientHello, of any size, to refuse it.
        """
        if self.direct:
            return True
        if not self._may_attach:
            return False
        unread = self._from_peer is not None and _lib.BIO_get_mem_data(self._from_peer, _NULL)
        if unread or _lib.BIO_get_mem_data(self._to_peer, _NULL):
            return False
        _lib.SSL_set_fd(self._ssl, self._fd)  # which frees the memory buffers
        self._from_peer = self._to_peer = None
        self.direct, self.grown, self.more, self.owes = True, False, False, False
        return True

    def detach(self) -> None:
        """Let OpenSSL read and write memory."""
        self.direct, self.grown = False, True
        self._to_peer = _lib.BIO_new(_lib.BIO_s_mem())
        self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))
