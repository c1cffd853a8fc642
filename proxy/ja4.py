"""JA4, FoxIO's fingerprint of a TLS client, in its three-part form: t13d1516h2_8daaf6152771_e5627efa2ab1.

The first part can be read: transport, highest version, server name sent or not, number of cipher suites and of
extensions, first and last character of the first ALPN name. The other two are the first 12 hexadecimal digits of a
SHA-256: over the cipher suites sorted, and over the extensions sorted (without server_name and ALPN, so that one client
looks the same towards every host) followed by the signature algorithms in the client's order. GREASE values (RFC 8701)
are left out everywhere. Source: FoxIO, "JA4: TLS Client Fingerprinting" (technical_details/JA4.md).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from proxy.client_hello_message import ClientHello

Transport = Literal["t", "q", "d"]  # TLS over TCP, QUIC, DTLS

GREASE = frozenset(range(0x0A0A, 0x10000, 0x1010))  # RFC 8701 section 2: 0x0a0a, 0x1a1a, ... 0xfafa

_SERVER_NAME = 0
_ALPN = 16
_SUPPORTED_VERSIONS = 43
_NOTHING = "000000000000"
USUAL = 512  # characters; no longer text is remembered: strangers can have 3 MB filled
_VERSIONS = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}


def ja4(hello: ClientHello, transport: Transport = "t") -> str:
    """The JA4 fingerprint of a ClientHello, 36 characters."""
    ciphers = _without_grease(hello.cipher_suites)
    extensions = _without_grease(hello.extensions)
    schemes = _without_grease(hello.signature_algorithms)
    version = max(hello.versions, default=0) if _SUPPORTED_VERSIONS in hello.extensions else hello.legacy_version
    name = "d" if _SERVER_NAME in extensions else "i"
    counts = f"{min(len(ciphers), 99):02}{min(len(extensions), 99):02}"
    readable = f"{transport}{_VERSIONS.get(version, '00')}{name}{counts}{_alpn_characters(hello.alpn)}"
    hashed = _hexadecimal(sorted(extension for extension in extensions if extension not in (_SERVER_NAME, _ALPN)))
    if schemes:
        hashed = f"{hashed}_{_hexadecimal(schemes)}"
    return f"{readable}_{_digest(_hexadecimal(sorted(ciphers)))}_{_digest(hashed)}"


def _without_grease(values: Iterable[int]) -> list[int]:
    return [value for value in values if value not in GREASE]


def _alpn_characters(alpn: Sequence[bytes]) -> str:
    """First and last character of the first name, or of its hexadecimal form where either is not alphanumeric."""
    if not alpn or not alpn[0]:
        return "00"
    ends = alpn[0][:1] + alpn[0][-1:]
    if ends.isalnum():
        return ends.decode("ascii")
    hexadecimal = ends.hex()
    return hexadecimal[0] + hexadecimal[-1]


def _hexadecimal(values: Sequence[int]) -> str:
    """The values as four hexadecimal digits each, with commas between."""
    return struct.pack(f">{len(values)}H", *values).hex(",", 2)


def _digest(text: str) -> str:
    return _hash_once(text) if len(text) <= USUAL else _hash(text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else _NOTHING


_hash_once = lru_cache(maxsize=4096)(_hash)  # clients of one kind send the same, once it is sorted
