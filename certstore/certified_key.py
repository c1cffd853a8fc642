"""One certificate that can be served, with its key and chain: what ranking looks at and what workers are sent.

A `CertifiedKey` holds DER and plain values, never parsed objects: 100,000 of them are 150 MB as DER and 550 MB as
objects, and a worker parses one only when a client first asks for it.
"""

from __future__ import annotations

import msgspec


class CertifiedKey(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A leaf certificate paired with its private key.

    Times are Unix seconds (UTC). A span starts at its first second and ends *at* its last: a certificate whose
    notAfter is now has expired, which is how OpenSSL's clients see it (X509_cmp_time). `trusted_from` and
    `trusted_until` span the time in which the chain found verifies for server authentication (the intersection of
    the validity of leaf, intermediates and anchor); both are 0 when no chain verifies. So the clock alone tells
    whether the certificate is trusted now.
    """

    fingerprint: str  # SHA-256 of the leaf's DER, lower-case hexadecimal
    names: tuple[str, ...]  # canonical host names; a wildcard as "*.example.com"
    addresses: tuple[str, ...]  # IP SANs as the ipaddress module prints them
    key_type: str  # "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448", "rsa-2048", ...
    not_before: int
    not_after: int
    self_signed: bool  # issuer = subject, and signed by its own key
    trusted_from: int
    trusted_until: int
    leaf: bytes  # DER
    chain: tuple[bytes, ...]  # DER, in sending order, without leaf and root
    key: bytes  # PKCS#8 DER; empty where private keys have no business
    paths: tuple[str, ...]  # the files that hold the leaf, then those that hold only the key

    def without_key(self) -> CertifiedKey:
        """The same entry for processes that must not see private keys."""
        return msgspec.structs.replace(self, key=b"")

    def is_valid(self, now: float) -> bool:
        """Whether `now` lies inside the certificate's own validity."""
        return self.not_before <= now < self.not_after

    def is_trusted(self, now: float) -> bool:
        """Whether the certificate and its whole chain verify at `now`."""
        return self.is_valid(now) and self.trusted_from <= now < self.trusted_until
