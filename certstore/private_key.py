"""One private key, in whichever of the three unencrypted encodings it came, as PKCS#8.

Libraries compute with a key's numbers when they load it (DSA, Diffie-Hellman) or sign with it, for minutes where the
numbers are large enough, and nobody can stop them. So the outermost structure is looked at first, with der.py: what is
not of a servable kind, or too large, never reaches them.
"""

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
_ALGORITHMS = {  # what stands in PKCS#8, RFC 8017, RFC 5480 and RFC 8410
    bytes.fromhex("2a864886f70d010101"): "rsa",
    bytes.fromhex("2a8648ce3d0201"): "ec",
    bytes.fromhex("2b6570"): "ed25519",
    bytes.fromhex("2b6571"): "ed448",
}
_COMMON = tuple(  # how PKCS#8 begins, behind its header: version 0, and one of these kinds
    bytes.fromhex("020100" + algorithm)
    for algorithm in ("301306072a8648ce3d0201", "301006072a8648ce3d0201", "300506032b6570", "300506032b6571")
)
_PUBLIC_KEY = 0x81  # [1] IMPLICIT BIT STRING
_P256 = (  # P-256 as PKCS#8 as OpenSSL writes it: what stands before the number, and before the public key
    bytes.fromhex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420"),
    bytes.fromhex("a144034200"),
)
_P256_INFO = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")  # and its SubjectPublicKeyInfo


MAX_KEY = 16 << 10  # bytes of DER; RSA with MAX_RSA_BITS has less than 5 KB


class PrivateKey(msgspec.Struct, frozen=True, gc=False, array_like=True):
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
    if len(data) > MAX_KEY:
        raise FileRejected(
            RejectReason.OVERSIZED,
            f"a private key in it has {len(data)} bytes, more than the {MAX_KEY} one may have; use a smaller key",
        )
    _check_kind(data)
    data, stored = _without_public_key(data)
    try:
        key = load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, _SERVABLE):
            raise unsupported_key("the private key")
        if _is_plain_p256(data):  # which the library has found to be the key's own, so nothing need be encoded again
            info, encoded = _P256_INFO + data[73:], data
        else:
            info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise _damaged() from None
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
        raise _inconsistent() from None


def _is_plain_p256(data: bytes) -> bool:
    """Whether a key is P-256 in the one form in which it is also kept, public key included."""
    return len(data) == 138 and data.startswith(_P256[0]) and data[68:73] == _P256[1] and data[73] == 4


def _check_kind(data: bytes) -> None:
    """Refuse a key of a kind that is not served, and RSA with numbers too large to reckon with."""
    if data.startswith(_COMMON, 2 if data[1:2] < b"\x80" else 3):
        return
    try:
        version, second, *rest = der.children(data, der.element(data))
        if version.tag != der.INTEGER:
            raise _damaged()
        if second.tag == der.SEQUENCE:  # PKCS#8: version, algorithm, the key proper in an OCTET STRING
            algorithm = der.children(data, second)[0]
            kind = _ALGORITHMS.get(data[algorithm.content : algorithm.end])
            if kind is None:
                raise unsupported_key("the private key")
            if kind != "rsa":
                return
            _, second, *rest = der.children(data, der.element(data, rest[0].content))
        if second.tag == der.INTEGER:
            modulus, others = second, rest
        else:  # SEC1
            return
    except (ValueError, IndexError):
        raise _damaged() from None
    bits = int.from_bytes(data[modulus.content : modulus.end], "big").bit_length()
    check_key_type(f"rsa-{bits}", "the private key")
    octets = bits // 8 + 2
    if any(one.end - one.content > octets for one in others) or any(
        one.end - one.content > octets // 2 + 8
        for one in others[2:]  # behind the exponents: the primes and their kin
    ):
        raise _inconsistent()


def _damaged() -> FileRejected:
    return FileRejected(
        RejectReason.MALFORMED,
        "a private key in it is damaged, or the public key stored with it is another's; write the file again",
    )


def _inconsistent() -> FileRejected:
    return FileRejected(
        RejectReason.MISMATCHED_KEY,
        "the numbers of an RSA private key in it do not belong together; get the key anew",
    )


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
