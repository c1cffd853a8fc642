"""What a PROXY header says of the certificate that was served, in the words HAProxy uses there.

The signature algorithm has OpenSSL's short name ("RSA-SHA256", "ecdsa-with-SHA256"); the key algorithm is its kind and
its bits ("RSA2048", "EC256"), and is left out for kinds that HAProxy has no word for (Ed25519, Ed448).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

KEPT: Final = 1024  # certificates, as many as a worker keeps contexts for

# RFC 8017 appendix A.2, RFC 5758 section 3.2 and RFC 8410 section 3; others are not made by public authorities.
SHORT_NAMES: Final = {
    "1.2.840.113549.1.1.5": "RSA-SHA1",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.113549.1.1.11": "RSA-SHA256",
    "1.2.840.113549.1.1.12": "RSA-SHA384",
    "1.2.840.113549.1.1.13": "RSA-SHA512",
    "1.2.840.113549.1.1.14": "RSA-SHA224",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.3.101.112": "ED25519",
    "1.3.101.113": "ED448",
}


class Algorithms(NamedTuple):
    """A certificate's algorithms; None where there is no word for one."""

    signature: str | None
    key: str | None


@lru_cache(maxsize=KEPT)
def algorithms(leaf: bytes) -> Algorithms:
    """The algorithms of a certificate in DER, worked out once for each. Raises ValueError."""
    certificate = x509.load_der_x509_certificate(leaf)
    key = certificate.public_key()
    if isinstance(key, RSAPublicKey):
        word: str | None = f"RSA{key.key_size}"
    elif isinstance(key, EllipticCurvePublicKey):
        word = f"EC{key.key_size}"
    else:
        word = None
    return Algorithms(SHORT_NAMES.get(certificate.signature_algorithm_oid.dotted_string), word)
