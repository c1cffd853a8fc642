"""Reading a ClientHello off the wire, before a byte is answered: bytes in, a ClientHello or an error out.

A client may cut the message as it likes: TCP cuts anywhere, and the record layer cuts a handshake message into as many
records as the client wants, its four-byte header included (RFC 8446 section 5.1). So the reader works in three steps.

1. The first bytes tell what is spoken. TLS goes on; HTTP, SSLv2 and anything else are told apart as soon as no other
   reading is left, which may take one byte or nine.
2. Records are taken whole. The reader knows how many bytes the next step wants and does nothing but collect until they
   are there, so that a client that sends single bytes costs one comparison a byte, not a parse.
3. A message that lies in one record, which is nearly every one, is parsed where it lies. Otherwise the fragments are
   appended to one another, each copied once, until the length in the message's header is reached.

All bytes are kept as received, since OpenSSL (or the backend, when the connection is passed through) is to read them
again. Bytes behind the ClientHello are kept and not looked at: early data may follow in the same segment.

Both caps count from the first byte: the message with its header, and the records that carry it, are at most 64 KiB
each. Records of one byte therefore carry some 10 KiB at the most, about six times what the largest clients send.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from proxy.client_hello_error import (
    PROTOCOL_VERSION,
    REASONS,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    ClientHelloError,
    Reason,
    malformed,
)
from proxy.client_hello_message import ClientHello, parse_client_hello
from proxy.client_key_types import usable_key_types

__all__ = [
    "CAP",
    "REASONS",
    "ClientHello",
    "ClientHelloError",
    "ClientHelloReader",
    "Reason",
    "read_at_once",
    "usable_key_types",
]

CAP = 64 * 1024  # bytes, for the handshake message and for the records that carry it
_MAX_FRAGMENT = 16384  # RFC 8446 section 5.1

_HANDSHAKE = 22
_CONTENT_TYPES = range(20, 25)  # change_cipher_spec, alert, handshake, application_data, heartbeat
_CLIENT_HELLO = 1
_RECORD_HEADER = struct.Struct(">BBBH")
_START = struct.Struct(">BBBHBBH")  # a record's header and a handshake message's
_METHODS = tuple(
    f"{method} ".encode()
    for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "PROPFIND")
)


def read_at_once(data: bytes) -> ClientHello | None:
    """The ClientHello where `data`, the first bytes of a connection, has all of it in one record: nearly always.

    None: feed the bytes to a ClientHelloReader. Raises ClientHelloError, as that would.
    """
    if len(data) < 9:
        return None
    content_type, major, _, fragment, message_type, high, low = _START.unpack_from(data)
    if content_type != _HANDSHAKE or major != 3 or message_type != _CLIENT_HELLO or fragment > _MAX_FRAGMENT:
        return None
    message_end = 9 + (high << 16 | low)
    if not message_end <= 5 + fragment <= len(data):
        return None
    return parse_client_hello(data, 9, message_end)


class ClientHelloReader:
    """Collects a client's first bytes until its ClientHello is complete. One reader for one connection, used once."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._message = bytearray()  # fragments so far, of a message that is spread over records
        self._position = 0  # in _raw: where the next record begins
        self._wanted = 1  # length of _raw at which the next step can be taken
        self._is_tls = False
        self._finished = False

    @property
    def received(self) -> bytes:
        """Every byte fed so far, in order. At most CAP, plus what came with the ClientHello's last byte in one feed."""
        return bytes(self._raw)

    def feed(self, data: bytes) -> ClientHello | None:
        """Take the next bytes; the ClientHello when it is complete, None when more is needed.

        Raises ClientHelloError as soon as the bytes cannot become a ClientHello within the caps. After either end the
        reader is done, and RuntimeError is raised for further bytes: they belong to OpenSSL.
        """
        if self._finished:
            raise RuntimeError("the reader has come to its end; what follows belongs to the TLS engine")
        self._raw += data
        if len(self._raw) < self._wanted:
            return None
        try:
            hello = self._advance()
        except ClientHelloError:
            self._finished = True
            del self._raw[CAP:]
            raise
        self._finished = hello is not None
        return hello

    def _advance(self) -> ClientHello | None:
        """Take records as long as there are whole ones."""
        raw = self._raw
        if not self._is_tls:
            self._is_tls = _is_tls(raw)
            if not self._is_tls:
                self._wanted = len(raw) + 1
                return None
        while True:
            fragment = self._position + _RECORD_HEADER.size
            if fragment >= CAP:
                _too_large()
            if len(raw) < fragment:
                self._wanted = fragment
                return None
            end = fragment + _fragment_length(*_RECORD_HEADER.unpack_from(raw, self._position))
            if end > CAP:
                _too_large()
            if len(raw) < end:
                self._wanted = end
                return None
            self._position = end
            hello = self._take(fragment, end)
            if hello is not None:
                return hello

    def _take(self, start: int, end: int) -> ClientHello | None:
        """Take one record's fragment, raw[start:end]."""
        message = self._message
        if not message:
            size = _message_size(self._raw, start, end)
            if size is not None and start + size <= end:
                return parse_client_hello(bytes(self._raw), start + 4, start + size)
        message += self._raw[start:end]
        size = _message_size(message, 0, len(message))
        if size is None or size > len(message):
            return None
        return parse_client_hello(bytes(message), 4, size)


def _message_size(data: bytearray, start: int, end: int) -> int | None:
    """Size of the handshake message at data[start:end], header included; None while its header is incomplete."""
    if data[start] != _CLIENT_HELLO:
        malformed(f"the first handshake message is of type {data[start]}, not a ClientHello", UNEXPECTED_MESSAGE)
    if end - start < 4:
        return None
    size = 4 + int.from_bytes(data[start + 1 : start + 4])
    if size > CAP:
        _too_large()
    return size


def _fragment_length(content_type: int, major: int, _minor: int, length: int) -> int:
    """The length out of a record header, checked. The minor version is to be ignored (RFC 8446 section 5.1)."""
    if content_type != _HANDSHAKE:
        malformed(f"a record of type {content_type} stands where the ClientHello is expected", UNEXPECTED_MESSAGE)
    if major != 3:
        malformed(f"a record of the ClientHello has version {major}", PROTOCOL_VERSION)
    if length == 0:
        malformed("a record of the ClientHello is empty, which RFC 8446 section 5.1 forbids")
    if length > _MAX_FRAGMENT:
        malformed(f"a record of {length} bytes is longer than the {_MAX_FRAGMENT} that TLS allows", RECORD_OVERFLOW)
    return length


def _is_tls(first: bytearray) -> bool:
    """Whether the connection's first bytes are a TLS record's; False while that is open, ClientHelloError if not."""
    if first[0] in _CONTENT_TYPES:
        if len(first) == 1:
            return False
        if first[1] == 3:
            return True
    elif first[0] & 0x80:
        if _may_be_sslv2(first):
            if len(first) < 5:
                return False
            raise ClientHelloError(
                "sslv2", "the client opened with an SSLv2 ClientHello, which no TLS server takes", PROTOCOL_VERSION
            )
    elif first.startswith(_METHODS):
        raise ClientHelloError("plain_http", "the client sent a plain HTTP request; this listener expects TLS")
    elif any(method.startswith(first) for method in _METHODS):
        return False
    raise ClientHelloError("not_tls", f"what the client sent is not TLS; it begins with the bytes {first[:8].hex(' ')}")


def _may_be_sslv2(first: bytearray) -> bool:
    """Whether an SSLv2 CLIENT-HELLO can begin so: a two-byte length, message 1, version 0.2 or 3.x (RFC 5246 E.2)."""
    return (len(first) < 3 or first[2] == 1) and (
        len(first) < 4 or first[3] == 3 or (first[3] == 0 and (len(first) < 5 or first[4] == 2))
    )


def _too_large() -> NoReturn:
    raise ClientHelloError(
        "client_hello_too_large",
        f"the ClientHello, or the records that carry it, is larger than {CAP} bytes",
        RECORD_OVERFLOW,
    )
