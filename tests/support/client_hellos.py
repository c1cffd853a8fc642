"""ClientHellos for tests: real ones from TLS libraries in memory, and built ones with any field as wanted."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterable, Sequence

from OpenSSL import SSL

TLS_1_2, TLS_1_3 = 0x0303, 0x0304
CHROME_CIPHERS = struct.unpack(
    ">16H", bytes.fromhex("1a1a130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f0035")
)
CHROME_SCHEMES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
MAX_FRAGMENT = 16384


def from_stdlib(
    name: str | None = "www.example.com",
    alpn: Sequence[str] = (),
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """The records of a ClientHello as the standard library's client sends it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = minimum, maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a client waits for the server's answer")


def from_pyopenssl(
    name: bytes | None = b"www.example.com",
    alpn: Sequence[bytes] = (),
    minimum: int = SSL.TLS1_2_VERSION,
    maximum: int = SSL.TLS1_3_VERSION,
    ciphers: bytes | None = None,
) -> bytes:
    """The records of a ClientHello as the newer OpenSSL in pyOpenSSL sends it, X25519MLKEM768 key share included."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(minimum)
    context.set_max_proto_version(maximum)
    if ciphers is not None:
        context.set_cipher_list(ciphers)
    if alpn:
        context.set_alpn_protos(list(alpn))
    client = SSL.Connection(context, None)
    client.set_connect_state()
    if name is not None:
        client.set_tlsext_host_name(name)
    try:
        client.do_handshake()
    except SSL.WantReadError:
        return client.bio_read(1 << 16)
    raise AssertionError("a client waits for the server's answer")


def vector(data: bytes, length_size: int = 2) -> bytes:
    """The data behind its length."""
    return len(data).to_bytes(length_size) + data


def numbers(values: Iterable[int], length_size: int = 2) -> bytes:
    """A vector of two-byte numbers."""
    return vector(b"".join([struct.pack(">H", value) for value in values]), length_size)


def server_name(*names: bytes, name_type: int = 0) -> tuple[int, bytes]:
    """The server_name extension."""
    return 0, vector(b"".join([bytes([name_type]) + vector(name) for name in names]))


def groups(*values: int) -> tuple[int, bytes]:
    """The supported_groups extension."""
    return 10, numbers(values)


def schemes(*values: int) -> tuple[int, bytes]:
    """The signature_algorithms extension."""
    return 13, numbers(values)


def alpn(*names: bytes) -> tuple[int, bytes]:
    """The application_layer_protocol_negotiation extension."""
    return 16, vector(b"".join([vector(name, 1) for name in names]))


def versions(*values: int) -> tuple[int, bytes]:
    """The supported_versions extension."""
    return 43, numbers(values, 1)


def message(
    extensions: Sequence[tuple[int, bytes]] | None = None,
    ciphers: Sequence[int] = (0x1301, 0xC02B, 0xC02F),
    legacy_version: int = TLS_1_2,
    session_id: bytes = bytes(32),
    compression: bytes = b"\0",
) -> bytes:
    """A ClientHello handshake message; `extensions` None leaves the whole block out."""
    body = (
        struct.pack(">H", legacy_version)
        + bytes(32)
        + vector(session_id, 1)
        + numbers(ciphers)
        + vector(compression, 1)
    )
    if extensions is not None:
        body += vector(b"".join([struct.pack(">H", kind) + vector(content) for kind, content in extensions]))
    return b"\x01" + vector(body, 3)


def record(fragment: bytes, content_type: int = 22, version: int = 0x0301) -> bytes:
    """One record."""
    return struct.pack(">BH", content_type, version) + vector(fragment)


def records(handshake: bytes, size: int = MAX_FRAGMENT) -> bytes:
    """The message cut into records of at most `size` bytes."""
    return b"".join([record(handshake[at : at + size]) for at in range(0, len(handshake), size)])


def message_of(raw: bytes) -> bytes:
    """The handshake message in one or more whole records."""
    fragments, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from(">H", raw, at + 3)
        fragments.append(raw[at + 5 : at + 5 + length])
        at += 5 + length
    return b"".join(fragments)


def chrome() -> bytes:
    """The records of a ClientHello like a current Chrome's: GREASE, a post-quantum key share, 1.8 KB in one record."""
    shares = vector(
        struct.pack(">H", 0x2A2A) + vector(b"\0") + struct.pack(">H", 0x11EC) + vector(bytes(1216))
        + struct.pack(">H", 0x001D) + vector(bytes(32))
    )  # fmt: skip
    extensions = [
        (0x3A3A, b""),
        (0x001B, b"\x02\x00\x02"),
        server_name(b"www.example.com"),
        (0x0033, shares),
        alpn(b"h2", b"http/1.1"),
        (0x44CD, b"\x00\x03\x02h2"),
        (0x0017, b""),
        (0x002D, b"\x01\x01"),
        schemes(*CHROME_SCHEMES),
        (0x0005, b"\x01\x00\x00\x00\x00"),
        (0x0023, b""),
        (0x0012, b""),
        versions(0x4A4A, TLS_1_3, TLS_1_2),
        (0xFF01, b"\x00"),
        (0x000B, b"\x01\x00"),
        groups(0x2A2A, 0x11EC, 0x001D, 0x0017, 0x0018),
        (0xFE0D, bytes(282)),
        (0x5A5A, b"\0"),
    ]
    return records(message(extensions, CHROME_CIPHERS))
