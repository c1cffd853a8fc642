"""The ClientHello message: what a client says before anything is negotiated (RFC 8446 section 4.1.2, RFC 5246 7.4.1.2).

What is read is what decides something here: versions, cipher suites, and five extensions. Their vectors must add up to
the byte; the content of the other extensions is OpenSSL's or the backend's business. A ClientHello may end without an
extensions block. Numbers are kept as sent, GREASE (RFC 8701) included, except in `versions`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal, NoReturn, TypeVar, get_args

import msgspec

from certstore.key_types import KeyTypes
from certstore.names import InvalidName, server_name
from proxy.client_key_types import usable_key_types
from proxy.ja4 import GREASE, Transport, ja4

Reason = Literal[
    "not_tls", "plain_http", "sslv2", "malformed_client_hello", "client_hello_too_large", "bad_server_name"
]
REASONS: tuple[Reason, ...] = get_args(Reason)  # every value of ClientHelloError.reason

# Alert descriptions, RFC 8446 section 6.
UNEXPECTED_MESSAGE = 10
RECORD_OVERFLOW = 22
ILLEGAL_PARAMETER = 47
DECODE_ERROR = 50
PROTOCOL_VERSION = 70
UNRECOGNIZED_NAME = 112

_SERVER_NAME, _SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS, _ALPN, _SUPPORTED_VERSIONS = 0, 10, 13, 16, 43
_READ_HERE = frozenset({_SERVER_NAME, _SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS, _ALPN, _SUPPORTED_VERSIONS})
_TLS_1_2 = 0x0303

# Many times what any client sends, and little enough to cost nothing.
MAX_EXTENSIONS = 256
MAX_PROTOCOLS = 64
_SO_MANY = range(MAX_EXTENSIONS + 1)
MAX_NUMBERS = 1024  # cipher suites, groups, signature algorithms

REMEMBERED = 256  # contents of each kind of extension: with the next, a stranger can fill some 2 MB
LONGEST_REMEMBERED = 192  # bytes

_T = TypeVar("_T")

_EXTENSION = struct.Struct(">HH")
_NUMBER = struct.Struct(">H")


class ClientHelloError(Exception):
    """What the client sent is no ClientHello that can be served; the text is a sentence for the log.

    `reason` is one of REASONS, fit for a metric label. `alert` is the TLS alert description to answer with (RFC 8446
    section 6), None when nothing should be sent.
    """

    def __init__(self, reason: Reason, sentence: str, alert: int | None = None) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason
        self.alert = alert


def malformed(sentence: str, alert: int = DECODE_ERROR) -> NoReturn:
    """Raise the ClientHelloError for a message that breaks the TLS syntax or its rules."""
    raise ClientHelloError("malformed_client_hello", sentence, alert)


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
    position += session_id
    (length,) = _NUMBER.unpack_from(data, position)
    position += 2
    if length < 2 or length & 1 or position + length >= end or length > 2 * MAX_NUMBERS:
        malformed(f"the ClientHello's cipher suites, {length} bytes, are no list that fits into it and is of use")
    cipher_suites = struct.unpack_from(f">{length >> 1}H", data, position)
    position += length
    length = data[position]
    position += 1 + length
    if length < 1 or position > end:
        malformed(f"the ClientHello's compression methods, {length} bytes, are no list that fits into it")
    extensions, spans = _extensions(data, position, end) if position < end else ((), {})
    (legacy_version,) = _NUMBER.unpack_from(data, start)

    return ClientHello(
        _server_name(data[spans[_SERVER_NAME]]) if _SERVER_NAME in spans else None,
        _alpn(data[spans[_ALPN]]) if _ALPN in spans else (),
        _versions(data[spans[_SUPPORTED_VERSIONS]])
        if _SUPPORTED_VERSIONS in spans
        else (min(legacy_version, _TLS_1_2),),
        _signature_algorithms(data[spans[_SIGNATURE_ALGORITHMS]]) if _SIGNATURE_ALGORITHMS in spans else (),
        _supported_groups(data[spans[_SUPPORTED_GROUPS]]) if _SUPPORTED_GROUPS in spans else (),
        cipher_suites,
        extensions,
        legacy_version,
    )


def _extensions(data: bytes, position: int, end: int) -> tuple[tuple[int, ...], dict[int, slice]]:
    """The extensions' types in order, and where the content of those that are read here begins and ends."""
    if position + 2 > end or position + 2 + _NUMBER.unpack_from(data, position)[0] != end:
        malformed("the length of the ClientHello's extensions is not what is left of the message")
    position += 2
    types: list[int] = []
    spans: dict[int, slice] = {}
    read_here, unpack = _READ_HERE, _EXTENSION.unpack_from
    try:
        for _ in _SO_MANY:
            if position >= end:
                break
            kind, length = unpack(data, position)
            position += 4
            types.append(kind)
            if kind in read_here:
                spans[kind] = slice(position, position + length)
            position += length
    except struct.error:
        position = -1
    if position != end and len(types) <= MAX_EXTENSIONS:
        malformed("the ClientHello's last extension is longer than what is left of the message")
    if len(types) > MAX_EXTENSIONS:
        malformed(f"the ClientHello has {len(types)} extensions, more than the {MAX_EXTENSIONS} that anybody sends")
    if len(set(types)) != len(types):
        malformed(f"extension {Counter(types).most_common(1)[0][0]} is given more than once", ILLEGAL_PARAMETER)
    return tuple(types), spans


def _remembered(parse: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    """Parse what was parsed lately without parsing it: clients of one make send the same lists, and names recur."""
    remember = lru_cache(REMEMBERED)(parse)
    return lambda content: remember(content) if len(content) <= LONGEST_REMEMBERED else parse(content)


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


_signature_algorithms = _remembered(partial(_numbers, "signature_algorithms"))
_supported_groups = _remembered(partial(_numbers, "supported_groups"))


@_remembered
def _versions(content: bytes) -> tuple[int, ...]:
    length = len(content) - 1
    if length < 2 or length & 1 or content[0] != length:
        malformed("the list in supported_versions is empty, of odd length, or not as long as the extension")
    versions: tuple[int, ...] = struct.unpack_from(f">{length >> 1}H", content, 1)
    return tuple([version for version in versions if version not in GREASE])


@_remembered
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


@_remembered
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
