"""Types of certificate keys as a bit mask: which ones a client can use, which one a certificate has."""

from __future__ import annotations

from enum import IntFlag


class KeyTypes(IntFlag):
    """A set of certificate key types. RSA keys of every size are one type: clients do not tell them apart."""

    ECDSA_P256 = 1
    ECDSA_P384 = 2
    ECDSA_P521 = 4
    ED25519 = 8
    ED448 = 16
    RSA = 32
    ALL = 63


_FLAGS = {
    "ecdsa-p256": KeyTypes.ECDSA_P256,
    "ecdsa-p384": KeyTypes.ECDSA_P384,
    "ecdsa-p521": KeyTypes.ECDSA_P521,
    "ed25519": KeyTypes.ED25519,
    "ed448": KeyTypes.ED448,
}


def of_key_type(key_type: str) -> KeyTypes:
    """The flag of a key type in CertifiedKey's words ("ecdsa-p256", "ed25519", "rsa-2048"); ValueError for others."""
    flag = _FLAGS.get(key_type)
    if flag is not None:
        return flag
    kind, _, bits = key_type.partition("-")
    if kind == "rsa" and bits.isdecimal():
        return KeyTypes.RSA
    raise ValueError(f"{key_type!r} is not a key type; known are {', '.join(_FLAGS)} and rsa-<bits>")
