"""What one listener wants of the certificates it serves, beyond the ranking that all of them share."""

from __future__ import annotations

from dataclasses import dataclass

from certstore.certified_key import CertifiedKey
from certstore.outline import public_key_digest


@dataclass(frozen=True, slots=True)
class Preference:
    """A listener's own default, and the public keys it is pinned to.

    `default` is a canonical host name, whose certificates go before the other default ones. `pins` are SHA-256
    digests of public keys (SubjectPublicKeyInfo): a candidate with one of these goes before every other one of its
    name, whatever its level. The others stay behind them: where no pinned key has a certificate for a name, or none
    that the client can use, what is served is what would be served without pins.
    """

    default: str | None = None
    pins: frozenset[bytes] = frozenset()

    def is_pinned(self, certificate: CertifiedKey) -> bool:
        """Whether the certificate has one of the pinned public keys."""
        return public_key_digest(certificate.leaf) in self.pins

    def passes_over(self, certificate: CertifiedKey) -> bool:
        """Whether candidates with a pinned key, if there are any, go before this one."""
        return bool(self.pins) and not self.is_pinned(certificate)


NO_PREFERENCE = Preference()
