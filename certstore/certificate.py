"""One X.509 certificate reduced to what selection, pairing and chain building ask of it.

The parser is cryptography's, and it accepts strict DER only; once it has, the issuer, the subject and the public key
are cut out of the bytes as they stand instead of being decoded and encoded again.
"""

from __future__ import annotations

import hashlib
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import msgspec
from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from certstore import der
from certstore.errors import FileRejected, RejectReason
from certstore.names import names_of
from certstore.outline import parts

MAX_CACHED = 4096  # bytes of a certificate that is kept for when it is read again
MIN_RSA_BITS = 1024
MAX_RSA_BITS = 8192  # a signature takes tens of milliseconds; time grows with the cube
MAX_SIZE = 64 << 10  # bytes of one certificate; clients take 100 KB for a whole chain
OTHER_KEY = "other"  # the key type of a CA whose key is of no type that snigate could serve

_SERVER_USAGES = frozenset((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE))
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")  # AlgorithmIdentifier, RFC 8017 appendix C
_EC = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey, RFC 5480
_FIXED = (  # how the SubjectPublicKeyInfo starts, RFC 5480 and RFC 8410
    (bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"), "ecdsa-p256"),
    (bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"), "ecdsa-p384"),
    (bytes.fromhex("30819b301006072a8648ce3d020106052b810400230381860004"), "ecdsa-p521"),
    (bytes.fromhex("302a300506032b6570032100"), "ed25519"),
    (bytes.fromhex("3043300506032b6571033a00"), "ed448"),
)


class Certificate(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One certificate. Times are Unix seconds; `issuer` and `subject` are the names' DER as signed."""

    fingerprint: str  # SHA-256 of the DER, lower-case hexadecimal
    der: bytes
    subject: bytes
    issuer: bytes
    spki: bytes  # SHA-256 of the SubjectPublicKeyInfo's DER, which pairs it with its private key
    names: tuple[str, ...]  # canonical host names and wildcards
    addresses: tuple[str, ...]  # as the ipaddress module prints them
    key_type: str  # "ecdsa-p256", "ed25519", "rsa-2048", ...; "other" is possible for a CA
    not_before: int
    not_after: int
    self_signed: bool  # issuer = subject, and signed by its own key
    is_ca: bool  # by basicConstraints
    server_auth: bool  # extended key usage absent, or with serverAuth or any


def read_certificate(data: bytes) -> Certificate:
    """Parse one certificate's DER.

    Raises FileRejected: OVERSIZED; MALFORMED; UNSUPPORTED or WEAK_KEY for a certificate that is no CA's and whose
    public key snigate could not serve.
    """
    return _read_certificate(data) if len(data) <= MAX_CACHED else _read_certificate.__wrapped__(data)


@lru_cache(maxsize=1024)  # the same few intermediates stand in thousands of files
def _read_certificate(data: bytes) -> Certificate:
    if len(data) > MAX_SIZE:
        raise FileRejected(
            RejectReason.OVERSIZED,
            f"a certificate in it has {len(data)} bytes, more than the {MAX_SIZE} one may have; name fewer hosts",
        )
    try:
        serial, issuer, subject, info = parts(data)
        with _without_warning(serial):
            parsed = x509.load_der_x509_certificate(data)
            is_ca, server_auth, san = _extensions(parsed)
        names, addresses = names_of(parsed, san)
        not_before, not_after = parsed.not_valid_before_utc.timestamp(), parsed.not_valid_after_utc.timestamp()
        key_type = key_type_of(info)
        if key_type is None and _EC in info[:20]:
            info = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            key_type = key_type_of(info)
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ):
        raise _malformed() from None
    if not is_ca:
        check_key_type(key_type, "the certificate's public key")
    return Certificate(
        fingerprint=hashlib.sha256(data).hexdigest(),
        der=data,
        subject=subject,
        issuer=issuer,
        spki=hashlib.sha256(info).digest(),
        names=names,
        addresses=addresses,
        key_type=key_type or OTHER_KEY,
        not_before=int(not_before),
        not_after=int(not_after),
        self_signed=subject == issuer and is_issued_by(parsed, parsed),
        is_ca=is_ca,
        server_auth=server_auth,
    )


def parse(certificate: Certificate) -> x509.Certificate:
    """The certificate as cryptography's object, for verifying."""
    with _without_warning(parts(certificate.der)[0]):
        return x509.load_der_x509_certificate(certificate.der)


def prove_certificate(certificate: Certificate) -> None:
    """Let OpenSSL, which will serve it, parse the certificate too (70 us): it refuses some that cryptography takes.

    Damage inside a name is such a case. Raises FileRejected (MALFORMED).
    """
    try:
        crypto.load_certificate(crypto.FILETYPE_ASN1, certificate.der)
    except crypto.Error:
        raise _malformed() from None


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name is the one the certificate gives, and the issuer's key signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, InternalError, UnsupportedAlgorithm):
        return False
    return True


def key_type_of(info: bytes) -> str | None:
    """The key type of a SubjectPublicKeyInfo (DER), in CertifiedKey's words; None for any other kind of key."""
    for start, key_type in _FIXED:
        if info.startswith(start):
            return key_type
    try:
        algorithm, bits = der.children(info, der.element(info))
        if info[algorithm.start : algorithm.end] != _RSA:
            return None
        key = der.element(info, bits.content + 1)  # behind the octet that counts a BIT STRING's unused bits
        modulus, _ = der.children(info, key)
    except ValueError:
        return None
    return f"rsa-{int.from_bytes(info[modulus.content : modulus.end], 'big').bit_length()}"


def unsupported_key(what: str) -> FileRejected:
    """The error for a key of a type that cannot be served; `what` opens the message."""
    return FileRejected(
        RejectReason.UNSUPPORTED,
        f"{what} is neither ECDSA (P-256, P-384, P-521) nor RSA, Ed25519 or Ed448; use one of these",
    )


def check_key_type(key_type: str | None, what: str) -> None:
    """Raise FileRejected (UNSUPPORTED, WEAK_KEY) unless a key of this type can be served; `what` opens the message."""
    if key_type is None:
        raise unsupported_key(what)
    kind, _, bits = key_type.partition("-")
    if kind == "rsa" and int(bits) < MIN_RSA_BITS:
        raise FileRejected(RejectReason.WEAK_KEY, f"{what} is RSA with {bits} bits, which is not secure; use 2048")
    if kind == "rsa" and int(bits) > MAX_RSA_BITS:
        raise FileRejected(
            RejectReason.UNSUPPORTED,
            f"{what} is RSA with {bits} bits, and more than {MAX_RSA_BITS} make every handshake slow; use 2048 to 4096",
        )


def _malformed() -> FileRejected:
    return FileRejected(
        RejectReason.MALFORMED, "a certificate in it is damaged or not made as RFC 5280 says; get it anew"
    )


def _without_warning(serial: bytes) -> AbstractContextManager[object]:
    """cryptography warns of a serial number that is zero or negative, as some roots' are; nobody here can mend them."""
    if b"\0" < serial < b"\x80":
        return nullcontext()
    return warnings.catch_warnings(action="ignore", category=CryptographyDeprecationWarning)


def _extensions(parsed: x509.Certificate) -> tuple[bool, bool, x509.SubjectAlternativeName | None]:
    """(is a CA, may authenticate a server, SAN)."""
    is_ca, server_auth, san = False, True, None
    for extension in parsed.extensions:
        value = extension.value
        kind = type(value)  # isinstance asks an abstract base class, for a microsecond each time
        if kind is x509.SubjectAlternativeName:
            san = value
        elif kind is x509.BasicConstraints:
            is_ca = value.ca
        elif kind is x509.ExtendedKeyUsage:
            server_auth = not _SERVER_USAGES.isdisjoint(value)
    return is_ca, server_auth, san
