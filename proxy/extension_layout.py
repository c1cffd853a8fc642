"""Where a ClientHello's extensions lie.

They lie in a row, each behind its type and its length, so that finding one means to step over those before it: more
than half of what reading a ClientHello takes. But a client that names an equally long host again sends the same row of
types and lengths, and to compare a whole row is one call. So a row that came twice in succession from one make of
client is compared when it comes again, and stepped through only where it is another. The rows of browsers that shuffle
their extensions are stepped through each time.
"""

from __future__ import annotations

import struct
from collections import Counter

from proxy.client_hello_error import ILLEGAL_PARAMETER, malformed

SERVER_NAME, SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS, ALPN, SUPPORTED_VERSIONS = 0, 10, 13, 16, 43

MAX_EXTENSIONS = 256  # many times what any client sends
REMEMBERED = 256  # rows, each of LONGEST bytes and USUAL of cipher suites at most: strangers can fill 11 MB with them
LONGEST = 2048  # bytes
USUAL = 256  # bytes of an extension's content, or of the cipher suites: no more is remembered, whoever sends it

_HEADER = struct.Struct(">HH")
_SO_MANY = range(MAX_EXTENSIONS + 1)
_READ_HERE = (SERVER_NAME, SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS, ALPN, SUPPORTED_VERSIONS)

Places = tuple[slice | None, slice | None, slice | None, slice | None, slice | None]


class ExtensionLayout:
    """A row of extensions: `types` in order, and `places`, where in the block the content of five of them lies.

    These are server_name, supported_groups, signature_algorithms, ALPN and supported_versions; None: it is not there.
    `is_usual`: none of the five is longer than USUAL.
    """

    __slots__ = ("_headers", "_row", "is_usual", "places", "types")

    def __init__(self, headers: list[tuple[int, int]], types: tuple[int, ...], places: dict[int, slice]) -> None:
        """`headers`: types and lengths."""
        self._headers = headers
        self._row: tuple[struct.Struct, tuple[bytes, ...]] | None = None
        self.types = types
        name, groups, algorithms, alpn, versions = map(places.get, _READ_HERE)
        self.places: Places = name, groups, algorithms, alpn, versions
        self.is_usual = all(place.stop - place.start <= USUAL for place in places.values())

    def learn(self) -> None:
        """Get ready for `is_of`."""
        shape = struct.Struct("".join([f"4s{length}x" for _, length in self._headers]))
        self._row = shape, tuple([_HEADER.pack(*header) for header in self._headers])

    def is_of(self, block: bytes) -> bool:
        """Whether `block`, as long as the one that this was made from, is known to be laid out so."""
        if self._row is None:
            return False
        shape, headers = self._row
        return shape.unpack(block) == headers


_remembered: dict[tuple[int, bytes], ExtensionLayout] = {}


def layout_of(block: bytes, client: bytes) -> ExtensionLayout:
    """How a block of extensions, without its length, is laid out. Raises ClientHelloError.

    `client`: something by which clients of one make are alike.
    """
    size = len(block)
    if size > LONGEST or len(client) > USUAL:
        return _walk(block)
    key = size, client
    known = _remembered.get(key)
    if known is not None and known.is_of(block):
        return known
    if len(_remembered) >= REMEMBERED:
        _remembered.clear()
    found = _remembered[key] = _walk(block)
    if known is not None and known.types == found.types:
        found.learn()
    return found


def _walk(block: bytes) -> ExtensionLayout:
    headers: list[tuple[int, int]] = []
    places: dict[int, slice] = {}
    position, end, unpack = 0, len(block), _HEADER.unpack_from
    try:
        for _ in _SO_MANY:
            if position >= end:
                break
            header = kind, length = unpack(block, position)
            headers.append(header)
            position += 4
            if kind in _READ_HERE:
                places[kind] = slice(position, position + length)
            position += length
    except struct.error:
        position = -1
    if position != end and len(headers) <= MAX_EXTENSIONS:
        malformed("the ClientHello's last extension is longer than what is left of the message")
    if len(headers) > MAX_EXTENSIONS:
        malformed(f"the ClientHello has {len(headers)} extensions, more than the {MAX_EXTENSIONS} that anybody sends")
    types = tuple([kind for kind, _ in headers])
    if len(set(types)) != len(types):
        malformed(f"extension {Counter(types).most_common(1)[0][0]} is given more than once", ILLEGAL_PARAMETER)
    return ExtensionLayout(headers, types, places)
