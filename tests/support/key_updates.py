"""Records of TLS 1.3 that no client library sends on demand: as many key updates as wanted (RFC 8446 section 4.6.3)."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from tests.support.engine import MemoryClient, client_context

_KEY_UPDATE, _HANDSHAKE, _APPLICATION_DATA = 24, 22, 23


class UpdatingClient(MemoryClient):
    """A client that can go on by itself where its library has done the handshake."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}
        context = client_context(minimum=SSL.TLS1_3_VERSION)
        context.set_keylog_callback(self._note)
        super().__init__(context)

    def _note(self, _connection: SSL.Connection, line: bytes) -> None:
        label, _, secret = line.decode().split()
        self._secrets[label] = bytes.fromhex(secret)

    def key_updates(self, count: int, last: bytes, *, requesting: bool = False) -> bytes:
        """So many key updates, and then `last` of the stream. Once, on a client that has written nothing."""
        secret = self._secrets["CLIENT_TRAFFIC_SECRET_0"]
        update = bytes((_KEY_UPDATE, 0, 0, 1, requesting))
        records = b""
        for _ in range(count):
            records += _record(secret, update, _HANDSHAKE)
            secret = _expand(secret, b"traffic upd", 32)
        return records + _record(secret, last, _APPLICATION_DATA)


def _record(secret: bytes, content: bytes, kind: int) -> bytes:
    """The first record under this secret, of TLS_AES_128_GCM_SHA256: its number is 0."""
    header = bytes((_APPLICATION_DATA, 3, 3)) + (len(content) + 17).to_bytes(2)
    nonce = _expand(secret, b"iv", 12)
    return header + AESGCM(_expand(secret, b"key", 16)).encrypt(nonce, content + bytes((kind,)), header)


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 section 7.1, without a context."""
    label = b"tls13 " + label
    info = length.to_bytes(2) + bytes((len(label),)) + label + b"\0"
    return HKDFExpand(SHA256(), length, info).derive(secret)
