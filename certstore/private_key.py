"""One private key, in whichever of the three unencrypted encodings it came, as PKCS#8."""

from __future__ import annotations

import hashlib

import msgspec
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from certstore import der
from certstore.certificate import check_key_type, key_type_of, unsupported_key
from certstore.errors import FileRejected, RejectReason

_SERVABLE = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_VERSION_1 = bytes.fromhex("020100")
_VERSION_2 = bytes.fromhex("02010130")  # and the next element's tag, which SEC1 does not have
_PUBLIC_KEY = 0x81  # [1] IMPLICIT BIT STRING


class PrivateKey(msgspec.Struct, frozen=True, gc=False):
    """One private key, not encrypted."""

    der: bytes  # PKCS#8
    spki: bytes  # SHA-256 of its public key's SubjectPublicKeyInfo
    key_type: str  # "ecdsa-p256", "ed25519", "rsa-2048", ...

    def __repr__(self) -> str:
        """Without the key, which has no business in a log or traceback."""
        return f"PrivateKey(spki={self.spki.hex()}, key_type={self.key_type!r})"


def read_private_key(data: bytes) -> PrivateKey:
    """Parse a key's DER: PKCS#8 (RFC 5208, RFC 5958), PKCS#1 (RFC 8017) or SEC1 (RFC 5915).

    EC and Edwards public keys are computed from the private key; one stored beside it must agree. An RSA key's
    numbers are taken on trust, since OpenSSL's full check takes 42 ms: see prove_key. Raises FileRejected.
    """
    data, stored = _without_public_key(data)
    try:
        key = load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, _SERVABLE):
            raise unsupported_key("the private key")
        public = key.public_key()
        info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise FileRejected(
            RejectReason.MALFORMED,
            "a private key in it is damaged, or the public key stored with it is another's; write the file again",
        ) from None
    if stored is not None and not info.endswith(stored):
        raise FileRejected(
            RejectReason.MISMATCHED_KEY, "the public key stored with a private key in it is another's; get the key anew"
        )
    key_type = key_type_of(info)
    check_key_type(key_type, "the private key")
    assert key_type is not None
    return PrivateKey(der=encoded, spki=hashlib.sha256(info).digest(), key_type=key_type)


def prove_key(key: PrivateKey) -> None:
    """Make one signature with an RSA key and check it with its public part: 0.3 ms instead of a 42 ms full check.

    Nothing to do for EC and Edwards keys, whose public part is computed. Raises FileRejected (MISMATCHED_KEY).
    """
    if not key.key_type.startswith("rsa-"):
        return
    try:
        private = load_der_private_key(key.der, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(private, rsa.RSAPrivateKey)
        signature = private.sign(b"snigate", padding.PKCS1v15(), SHA256())
        private.public_key().verify(signature, b"snigate", padding.PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature, InternalError):
        raise FileRejected(
            RejectReason.MISMATCHED_KEY,
            "the numbers of an RSA private key in it do not belong together; get the key anew",
        ) from None


def _without_public_key(data: bytes) -> tuple[bytes, bytes | None]:
    """PKCS#8 version 2 (RFC 5958) as version 1, and the public key it carried; anything else as it is.

    Rust's and Go's tools write Ed25519 keys so, and OpenSSL's parser takes version 1 only.
    """
    if data.find(_VERSION_2, 2, 6 + len(_VERSION_2)) < 0:
        return data, None
    try:
        version, algorithm, key, *rest = der.children(data, der.element(data))
        public = next((one for one in rest if one.tag == _PUBLIC_KEY), None)
    except ValueError:
        return data, None
    if public is None or (version.tag, algorithm.tag, key.tag) != (der.INTEGER, der.SEQUENCE, der.OCTET_STRING):
        return data, None
    plain = der.sequence(_VERSION_1, data[algorithm.start : algorithm.end], data[key.start : key.end])
    return plain, data[public.content + 1 : public.end]
