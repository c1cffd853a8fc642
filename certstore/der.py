"""Just enough DER to find the parts of a structure: tag, length, content, without decoding any of it.

Where a certificate's issuer, subject and public key begin and end is all that is wanted of it here, and cutting them
out costs a tenth of decoding and encoding them again; it also keeps the bytes exactly as they were signed. Lengths are
definite (X.690 section 10.1) and tags are of one byte, which holds for every structure looked at.
"""

from __future__ import annotations

from typing import NamedTuple

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30


class DerError(ValueError):
    """The bytes are no DER of the expected shape."""


class Element(NamedTuple):
    """One element as offsets into the bytes it lies in: data[start:end] with header, data[content:end] without."""

    tag: int
    start: int
    content: int
    end: int


def span(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends: `element` for where nothing else is wanted."""
    try:
        if (length := data[at + 1]) < 0x80:
            return at + 2, at + 2 + length
    except IndexError:
        raise DerError("no element header") from None
    _, _, content, end = element(data, at)
    return content, end


def element(data: bytes, at: int = 0) -> Element:
    """The element that starts at `at`; `end` may lie beyond the data. Raises DerError when the header is not there."""
    if at + 2 > len(data):
        raise DerError("no element header")
    length = data[at + 1]
    content = at + 2
    if length >= 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or content + octets > len(data):
            raise DerError("not a definite length of at most four octets")
        length = int.from_bytes(data[content : content + octets], "big")
        content += octets
    return Element(data[at], at, content, content + length)


def children(data: bytes, parent: Element) -> list[Element]:
    """The elements directly inside `parent`, which lies wholly in `data`; raises DerError."""
    found = []
    at, end = parent.content, parent.end
    if end > len(data):
        raise DerError("the element ends beyond the data")
    while at < end:
        if at + 2 <= end and (length := data[at + 1]) < 0x80:
            child = Element(data[at], at, at + 2, at + 2 + length)
        else:
            child = element(data, at)
        at = child.end
        if at > end:
            raise DerError("an element ends beyond its parent")
        found.append(child)
    return found


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE of already encoded parts."""
    body = b"".join(parts)
    length = len(body)
    if length < 0x80:
        return bytes((SEQUENCE, length)) + body
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((SEQUENCE, 0x80 | len(octets))) + octets + body


def looks_like(data: bytes) -> bool:
    """Whether the bytes start like a certificate, key or PKCS#12 in DER (or BER) rather than like text."""
    return data[:1] == b"0" and (0x80 <= int.from_bytes(data[1:2], "big") <= 0x84 or data[2:4] == b"\x02\x01")
