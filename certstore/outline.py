"""The parts of a certificate as they stand in its DER, without parsing what they say (RFC 5280 section 4.1)."""

from __future__ import annotations

import hashlib

from certstore import der

_VERSION = b"\xa0"  # [0] EXPLICIT


def parts(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """A certificate's serial number, without header, and issuer, subject and SubjectPublicKeyInfo, as DER.

    Raises DerError, but leaves most of what can be wrong to the parser.
    """
    at, _ = der.span(data, der.span(data, 0)[0])
    if data[at : at + 1] == _VERSION:
        _, at = der.span(data, at)
    serial, serial_end = der.span(data, at)
    _, issuer = der.span(data, serial_end)
    _, validity = der.span(data, issuer)
    _, subject = der.span(data, validity)
    _, info = der.span(data, subject)
    _, end = der.span(data, info)
    return data[serial:serial_end], data[issuer:validity], data[subject:info], data[info:end]


def public_key_digest(data: bytes) -> bytes:
    """SHA-256 of a certificate's SubjectPublicKeyInfo, which is what TLSA records and pins hold. Raises DerError."""
    return hashlib.sha256(parts(data)[3]).digest()
