"""Parts of a certificate as files for somewhere else, its private key when it is asked for plainly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    load_der_private_key,
    pkcs12,
)

from admin.belongings import called, own_key, request_for, subject_of
from admin.refusal import Refused
from certstore.certified_key import CertifiedKey
from certstore.issue import Names, key_pem
from certstore.private_key import PrivateKey

Part = Literal["certificate", "chain", "fullchain", "request", "key", "pkcs12"]
PARTS: tuple[Part, ...] = ("certificate", "chain", "fullchain", "request", "key", "pkcs12")
SECRET: frozenset[Part] = frozenset({"key", "pkcs12"})

_SERVABLE = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_PEM = "application/x-pem-file"


class Exported(NamedTuple):
    """What is handed out."""

    name: str  # of a file for it
    data: bytes
    media_type: str


def exported(certificate: CertifiedKey, part: Part, passphrases: Sequence[bytes], protection: str | None) -> Exported:
    """A part of a certificate. `passphrases` open key files; `protection` is for PKCS#12. Raises Refused."""
    name = called(certificate).replace("*", "_").replace(":", "_")
    chain = [_pem(one) for one in certificate.chain]
    if part == "certificate":
        return Exported(f"{name}.crt", _pem(certificate.leaf), _PEM)
    if part == "chain":
        return Exported(f"{name}-chain.pem", b"".join(chain), _PEM)
    if part == "fullchain":
        return Exported(f"{name}-fullchain.pem", b"".join((_pem(certificate.leaf), *chain)), _PEM)
    if part == "pkcs12" and not protection:
        raise Refused("PKCS#12 is encrypted; say a passphrase for it (--passphrase-file)", "passphrase")
    key = own_key(certificate, passphrases)
    if part == "request":
        names = Names(certificate.names, certificate.addresses)
        return Exported(f"{name}.csr", request_for(names, key, subject_of(certificate)), _PEM)
    if part == "key":
        return Exported(f"{name}.key", key_pem(key.der), _PEM)
    return Exported(f"{name}.p12", _pkcs12(certificate, key, protection or ""), "application/x-pkcs12")


def _pem(certificate: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)


def _pkcs12(certificate: CertifiedKey, key: PrivateKey, protection: str) -> bytes:
    private = load_der_private_key(key.der, None)
    assert isinstance(private, _SERVABLE)
    return pkcs12.serialize_key_and_certificates(
        called(certificate).encode(),
        private,
        x509.load_der_x509_certificate(certificate.leaf),
        [x509.load_der_x509_certificate(one) for one in certificate.chain],
        BestAvailableEncryption(protection.encode()),
    )
