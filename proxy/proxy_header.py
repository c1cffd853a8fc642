"""Reading a PROXY protocol header off the wire, before the bytes of the client it speaks of: bytes in, a header out.

Source: "The PROXY protocol, Versions 1 & 2" (haproxy.org, proxy-protocol.txt); section numbers below are its own.

A sender writes the header whole, but TCP may cut it anywhere, so the reader keeps what has come and looks again with
each piece. That is cheap: until a header is complete, looking means to compare a signature and a length. Both caps are
checked before anything is kept: a line of version 1 is at most 107 bytes (section 2.1), and of version 2 we take at
most 4 KiB behind the fixed 16 bytes, where HAProxy sends a few hundred. A header that wants more is refused by its
length field, not collected.

Strict where the specification says "must": unknown versions, commands and families, addresses that do not fill their
block, TLVs that do not add up, and a checksum that does not fit are errors. Lenient where it says so: a connection
that is the proxy's own (LOCAL) may carry anything in its block, and types of TLVs we do not know are kept unread.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, NamedTuple, NoReturn, get_args

from proxy.crc32c import crc32c
from proxy.proxy_protocol import (
    FAMILY_TCP4,
    FAMILY_TCP6,
    FAMILY_UNSPEC,
    PP2_SUBTYPE_SSL_CIPHER,
    PP2_SUBTYPE_SSL_CN,
    PP2_SUBTYPE_SSL_KEY_ALG,
    PP2_SUBTYPE_SSL_SIG_ALG,
    PP2_SUBTYPE_SSL_VERSION,
    PP2_TYPE_ALPN,
    PP2_TYPE_AUTHORITY,
    PP2_TYPE_CRC32C,
    PP2_TYPE_SSL,
    PP2_TYPE_UNIQUE_ID,
    SIGNATURE_V1,
    SIGNATURE_V2,
    V2_LOCAL,
    V2_PROXY,
    Address,
    Tlv,
)

Reason = Literal["proxy_header_missing", "proxy_header_invalid"]
REASONS: tuple[Reason, ...] = get_args(Reason)  # every value of ProxyHeaderError.reason

CAP_V1: Final = 107  # bytes, section 2.1
CAP_V2: Final = 16 + 4096  # bytes, our own
CAP: Final = max(CAP_V1, CAP_V2)

_FIXED: Final = 16  # bytes before the address block of version 2
_FAMILY_UNIX: Final = 0x31
_BLOCK: Final = {FAMILY_UNSPEC: 0, FAMILY_TCP4: 12, FAMILY_TCP6: 36, _FAMILY_UNIX: 216}  # bytes of addresses
_MAX_UNIQUE_ID: Final = 128  # bytes


class ProxyHeaderError(Exception):
    """What came is no PROXY header that can be believed; the text is a sentence for the log.

    `reason` is one of REASONS, fit for a metric label.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason


class SslFacts(NamedTuple):
    """The SSL TLV (section 2.2.6): how the client came to the sender. Texts are None where the sender is silent."""

    client: int  # the bits PP2_CLIENT_*
    verify: int  # 0: a client certificate was verified
    version: str | None
    common_name: str | None
    cipher: str | None
    signature_algorithm: str | None
    key_algorithm: str | None


class ProxyHeader(NamedTuple):
    """A header as sent. `source` and `destination` are both None where the connection's own addresses are to stay:
    LOCAL, UNKNOWN, UNSPEC and Unix sockets. IPv4 addresses mapped into IPv6 are given as IPv4.
    """

    version: int  # 1 or 2
    source: Address | None
    destination: Address | None
    size: int  # bytes, of the header itself
    tlvs: tuple[Tlv, ...] = ()
    ssl: SslFacts | None = None

    @property
    def alpn(self) -> bytes | None:
        """The protocol that the client negotiated with the sender."""
        return self._first(PP2_TYPE_ALPN)

    @property
    def authority(self) -> str | None:
        """The host name that the client asked the sender for, as sent: it is not checked to be one."""
        value = self._first(PP2_TYPE_AUTHORITY)
        return None if value is None else _text(value)

    @property
    def unique_id(self) -> bytes | None:
        """The sender's name for the connection."""
        return self._first(PP2_TYPE_UNIQUE_ID)

    def _first(self, wanted: int) -> bytes | None:
        return next((value for kind, value in self.tlvs if kind == wanted), None)


class ProxyHeaderReader:
    """Collects a connection's first bytes until its header is complete. One reader for one connection, used once."""

    __slots__ = ("_finished", "_held", "rest")

    def __init__(self) -> None:
        self._held = b""
        self._finished = False
        self.rest = b""  # what came behind the header in the same piece

    @property
    def held(self) -> int:
        """Bytes that the reader keeps now, at most CAP."""
        return len(self._held)

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes; the header when it is complete, None when more is needed.

        Raises ProxyHeaderError as soon as the bytes cannot become a header. After either end the reader is done, and
        RuntimeError is raised for further bytes.
        """
        if self._finished:
            raise RuntimeError("the reader has come to its end; what follows is the client's own")
        room = CAP - len(self._held)
        self._held += data[:room]
        try:
            header = decode(self._held)
        except ProxyHeaderError:
            self._finished = True
            self._held = b""
            raise
        if header is not None:
            self._finished = True
            self.rest = self._held[header.size :] + data[room:]
            self._held = b""
        return header


def decode(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None while it is not complete. Raises ProxyHeaderError."""
    if data.startswith(SIGNATURE_V2):
        return _decode_v2(data)
    if data.startswith(SIGNATURE_V1):
        return _decode_v1(data)
    if SIGNATURE_V2.startswith(data) or SIGNATURE_V1.startswith(data):
        return None
    raise ProxyHeaderError(
        "proxy_header_missing", f"what came is no PROXY header; it begins with the bytes {data[:8].hex(' ')}"
    )


def _decode_v1(data: bytes) -> ProxyHeader | None:
    """Section 2.1."""
    end = data.find(b"\n", 0, CAP_V1) + 1
    if not end:
        if len(data) >= CAP_V1:
            _invalid(f"the line is longer than {CAP_V1} bytes")
        return None
    if data[end - 2 : end] != b"\r\n":
        _invalid("the line does not end with CR LF")
    _, family, *words = data[: end - 2].split(b" ")
    if family == b"UNKNOWN":  # whatever follows is to be ignored
        return ProxyHeader(1, None, None, end)
    if family not in (b"TCP4", b"TCP6") or len(words) != 4:
        _invalid("the line is not of the form PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT")
    source, destination = (_address_v1(family, word) for word in words[:2])
    return ProxyHeader(1, (source, _port_v1(words[2])), (destination, _port_v1(words[3])), end)


def _address_v1(family: bytes, word: bytes) -> str:
    try:
        text = word.decode("ascii")
        if family == b"TCP4":
            return str(IPv4Address(text))
        if "%" in text:
            raise ValueError
        return _plain(IPv6Address(text))
    except ValueError:
        _invalid(f"{word!r} is not an address of family {family.decode()}")


def _port_v1(word: bytes) -> int:
    """A decimal number without leading zeros."""
    if not 1 <= len(word) <= 5 or not word.isdigit() or (word[0] == ord("0") and word != b"0") or int(word) > 65535:
        _invalid(f"{word!r} is not a port number")
    return int(word)


def _decode_v2(data: bytes) -> ProxyHeader | None:
    """Section 2.2."""
    if len(data) < _FIXED:
        return None
    command, family, length = struct.unpack_from(">BBH", data, len(SIGNATURE_V2))
    if command not in (V2_LOCAL, V2_PROXY):
        _invalid(f"version and command are 0x{command:02x}, not 0x{V2_PROXY:02x} (PROXY) or 0x{V2_LOCAL:02x} (LOCAL)")
    size = _FIXED + length
    if size > CAP_V2:
        _invalid(f"it is {size} bytes long, and {CAP_V2} are the most")
    if command == V2_PROXY and length < _block(family):
        _invalid(f"{length} bytes are not enough for the addresses of family 0x{family:02x}")
    if len(data) < size:
        return None
    if command == V2_LOCAL:  # the whole block is to be discarded, its family included
        return ProxyHeader(2, None, None, size)
    start = _FIXED + _block(family)
    tlvs = tuple(_tlvs(data[start:size]))
    _check(data[:size], start, tlvs)
    source, destination = _addresses_v2(family, data[_FIXED:start])
    return ProxyHeader(2, source, destination, size, tlvs, _ssl(tlvs))


def _block(family: int) -> int:
    """Bytes of addresses. Families of datagrams are errors like unknown ones: this is a stream."""
    size = _BLOCK.get(family)
    if size is None:
        _invalid(f"0x{family:02x} is no family and transport of a stream")
    return size


def _addresses_v2(family: int, block: bytes) -> tuple[Address | None, Address | None]:
    if family not in (FAMILY_TCP4, FAMILY_TCP6):
        return None, None
    size = 4 if family == FAMILY_TCP4 else 16
    kind = IPv4Address if family == FAMILY_TCP4 else IPv6Address
    source_port, destination_port = struct.unpack_from(">HH", block, 2 * size)
    source, destination = (_plain(kind(block[at : at + size])) for at in (0, size))
    return (source, source_port), (destination, destination_port)


def _tlvs(data: bytes) -> Iterator[Tlv]:
    """Section 2.2.1; they must add up to the byte."""
    while data:
        end = 3 + int.from_bytes(data[1:3])
        if len(data) < 3 or len(data) < end:
            _invalid("a TLV is longer than what holds it")
        yield data[0], data[3:end]
        data = data[end:]


def _check(header: bytes, position: int, tlvs: tuple[Tlv, ...]) -> None:
    """The unique id's length (section 2.2.5), and the checksum (2.2.3), over the header with zeros in its place."""
    for kind, value in tlvs:
        position += 3
        if kind == PP2_TYPE_CRC32C:
            if len(value) != 4:
                _invalid(f"the checksum has {len(value)} bytes, not 4")
            if crc32c(header[:position] + bytes(4) + header[position + 4 :]) != int.from_bytes(value):
                _invalid("the checksum does not fit; it was damaged on its way")
        elif kind == PP2_TYPE_UNIQUE_ID and len(value) > _MAX_UNIQUE_ID:
            _invalid(f"the unique id has {len(value)} bytes, and {_MAX_UNIQUE_ID} are the most")
        position += len(value)


def _ssl(tlvs: tuple[Tlv, ...]) -> SslFacts | None:
    value = next((value for kind, value in tlvs if kind == PP2_TYPE_SSL), None)
    if value is None:
        return None
    if len(value) < 5:
        _invalid(f"the SSL TLV has {len(value)} bytes, and 5 are the least")
    client, verify = struct.unpack_from(">BI", value)
    texts = {kind: _text(text) for kind, text in _tlvs(value[5:])}
    return SslFacts(
        client,
        verify,
        texts.get(PP2_SUBTYPE_SSL_VERSION),
        texts.get(PP2_SUBTYPE_SSL_CN),
        texts.get(PP2_SUBTYPE_SSL_CIPHER),
        texts.get(PP2_SUBTYPE_SSL_SIG_ALG),
        texts.get(PP2_SUBTYPE_SSL_KEY_ALG),
    )


def _plain(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _text(value: bytes) -> str:
    """UTF-8 (sections 2.2.2 and 2.2.6); bytes that are not are shown as such, for nothing depends on them."""
    return value.decode(errors="backslashreplace")


def _invalid(sentence: str) -> NoReturn:
    raise ProxyHeaderError("proxy_header_invalid", f"the PROXY header is invalid: {sentence}")
