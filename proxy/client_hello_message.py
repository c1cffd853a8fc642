"""The ClientHello message: what a client says before anything is negotiated (RFC 8446 section 4.1.2, RFC 5246 7.4.1.2).

What is read is what decides something here: versions, cipher suites, and five extensions. Their vectors must add up to
the byte; the content of the other extensions is OpenSSL's or the backend's business. A ClientHello may end without an
extensions block. Numbers are kept as sent, GREASE (RFC 8701) included, except in `versions`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import msgspec

from certstore.key_types import KeyTypes
from certstore.names import InvalidName, server_name
from proxy.client_hello_error import ILLEGAL_PARAMETER, UNRECOGNIZED_NAME, ClientHelloError, malformed
from proxy.client_key_types import usable_key_types
from proxy.extension_layout import USUAL, layout_of
from proxy.ja4 import GREASE, Transport, ja4

_TLS_1_2 = 0x0303

MAX_PROTOCOLS = 64
MAX_NUMBERS = 1024  # cipher suites, groups, signature algorithms

REMEMBERED = 256  # contents of each kind of extension, where they are not longer than usual: some 4 MB

_NUMBER = struct.Struct(">H")


class ClientHello(msgspec.Struct, frozen=True, gc=False):
    """A parsed ClientHello. Numbers are IANA's code points, in the client's order; an absent extension is empty.

    `versions` is what may be negotiated, GREASE removed: supported_versions, or without that extension the legacy
    version, which then stands for TLS 1.2 at the most (RFC 8446 section 4.2.1).
    """

    server_name: str | None  # canonical host name; None when absent or an IP literal
    alpn: tuple[bytes, ...]
    versions: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    groups: tuple[int, ...]
    cipher_suites: tuple[int, ...]
    extensions: tuple[int, ...]
    legacy_version: int

    @property
    def key_types(self) -> KeyTypes:
        """The certificate keys this client can use when the server speaks every version; see usable_key_types."""
        return usable_key_types(self)

    def ja4(self, transport: Transport = "t") -> str:
        """The client's JA4 fingerprint, computed at each call: keep it where it is needed twice."""
        return ja4(self, transport)


def parse_client_hello(data: bytes, start: int, end: int) -> ClientHello:
    """Parse the body of a ClientHello, data[start:end] without the handshake header; raises ClientHelloError."""
    position = start + 35
    if position > end or (session_id := data[start + 34]) > 32 or position + session_id + 2 > end:
        malformed("the ClientHello ends before its cipher suites, or its session id is longer than 32 bytes")
    position += session_id + 2
    suites_end = position + (data[position - 2] << 8 | data[position - 1])
    suites = data[position:suites_end]
    if suites_end >= end or not suites:
        malformed(f"the ClientHello's cipher suites, {suites_end - position} bytes, are no list that fits into it")
    position = suites_end + 1 + data[suites_end]
    if position > end or position == suites_end + 1:
        malformed(f"the ClientHello's compression methods, {data[suites_end]} bytes, are no list that fits into it")
    block = data[position + 2 : end]
    if position < end and (position + 2 > end or (data[position] << 8 | data[position + 1]) != len(block)):
        malformed("the length of the ClientHello's extensions is not what is left of the message")
    layout = layout_of(block, suites)
    read = _READ_ONCE if layout.is_usual and len(suites) <= USUAL else _READ
    name, groups, algorithms, alpn, versions = layout.places
    legacy_version = data[start] << 8 | data[start + 1]
    return ClientHello(
        None if name is None else read.server_name(block[name]),
        () if alpn is None else read.alpn(block[alpn]),
        (min(legacy_version, _TLS_1_2),) if versions is None else read.versions(block[versions]),
        () if algorithms is None else read.signature_algorithms(block[algorithms]),
        () if groups is None else read.groups(block[groups]),
        read.cipher_suites(suites),
        layout.types,
        legacy_version,
    )


def _cipher_suites(content: bytes) -> tuple[int, ...]:
    length = len(content)
    if length & 1 or length > 2 * MAX_NUMBERS:
        malformed(f"the ClientHello's cipher suites, {length} bytes, have an odd length, or are of no use so many")
    return struct.unpack(f">{length >> 1}H", content)


def _list_start(content: bytes, extension: str) -> int:
    """Where the only vector of an extension begins, behind its two-byte length, which must be all that is left."""
    if len(content) <= 2 or 2 + _NUMBER.unpack_from(content)[0] != len(content):
        malformed(f"the list in {extension} is empty or not as long as the extension")
    return 2


def _numbers(extension: str, content: bytes) -> tuple[int, ...]:
    start, end = _list_start(content, extension), len(content)
    if (end - start) & 1 or end - start > 2 * MAX_NUMBERS:
        malformed(f"the list in {extension} has an odd length, or more than {MAX_NUMBERS} entries")
    return struct.unpack_from(f">{(end - start) >> 1}H", content, start)


def _versions(content: bytes) -> tuple[int, ...]:
    length = len(content) - 1
    if length < 2 or length & 1 or content[0] != length:
        malformed("the list in supported_versions is empty, of odd length, or not as long as the extension")
    versions: tuple[int, ...] = struct.unpack_from(f">{length >> 1}H", content, 1)
    return tuple([version for version in versions if version not in GREASE])


def _alpn(content: bytes) -> tuple[bytes, ...]:
    position, end = _list_start(content, "application_layer_protocol_negotiation"), len(content)
    names: list[bytes] = []
    while position < end:
        stop = position + 1 + content[position]
        if stop == position + 1 or stop > end:
            malformed("a protocol name in application_layer_protocol_negotiation is empty or longer than the list")
        names.append(content[position + 1 : stop])
        position = stop
        if len(names) > MAX_PROTOCOLS:
            malformed(f"the client offers more than {MAX_PROTOCOLS} protocols by ALPN")
    return tuple(names)


def _server_name(content: bytes) -> str | None:
    """The one host_name of the extension (RFC 6066 section 3); other name types were never defined."""
    position, end = _list_start(content, "server_name"), len(content)
    if position + 3 > end or content[position] != 0:
        malformed("server_name holds a name that is not a host_name")
    stop = position + 3 + _NUMBER.unpack_from(content, position + 1)[0]
    if stop == position + 3 or stop > end:
        malformed("the host_name in server_name is empty or longer than the list")
    if stop != end:
        malformed("server_name holds more than one name", ILLEGAL_PARAMETER)
    raw = content[position + 3 : stop]
    if not raw.isascii():
        raise ClientHelloError(
            "bad_server_name", f"the server name {raw[:64]!r} is not ASCII, as RFC 6066 asks", UNRECOGNIZED_NAME
        )
    try:
        return server_name(raw)
    except InvalidName as error:
        raise ClientHelloError(
            "bad_server_name", f"the server name is no host name: {error}", UNRECOGNIZED_NAME
        ) from None


class _Readers(NamedTuple):
    """What reads the cipher suites and the contents of five extensions."""

    server_name: Callable[[bytes], str | None]
    groups: Callable[[bytes], tuple[int, ...]]
    signature_algorithms: Callable[[bytes], tuple[int, ...]]
    alpn: Callable[[bytes], tuple[bytes, ...]]
    versions: Callable[[bytes], tuple[int, ...]]
    cipher_suites: Callable[[bytes], tuple[int, ...]]

    def remembering(self) -> _Readers:
        """The same, that do not read what they have read lately: clients of one make send the same lists."""
        once = lru_cache(REMEMBERED)
        return _Readers(
            once(self.server_name),
            once(self.groups),
            once(self.signature_algorithms),
            once(self.alpn),
            once(self.versions),
            once(self.cipher_suites),
        )


_READ = _Readers(
    _server_name,
    partial(_numbers, "supported_groups"),
    partial(_numbers, "signature_algorithms"),
    _alpn,
    _versions,
    _cipher_suites,
)
_READ_ONCE = _READ.remembering()
