"""What becomes of a request that cannot be granted."""

from __future__ import annotations

from collections.abc import Iterable

from certstore.certified_key import CertifiedKey
from certstore.errors import CertstoreError

MIN_DIGITS = 8  # of a fingerprint that name a certificate in a path


class Refused(CertstoreError):  # noqa: N818 - what became of it
    """What was asked for is not done; a sentence that says why, and what to do. `field` is the one to correct."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotFound(Refused):
    """There is no such thing."""


def named(held: Iterable[CertifiedKey], which: str) -> CertifiedKey:
    """The certificate whose fingerprint begins so. Raises NotFound."""
    digits = which.replace(":", "").lower()
    found = [one for one in held if one.fingerprint.startswith(digits)] if len(digits) >= MIN_DIGITS else []
    if not found:
        raise NotFound(
            f"no certificate that can be changed has a fingerprint that begins so (give at least {MIN_DIGITS} digits)"
        )
    if len(found) > 1:
        raise NotFound(f"{len(found)} certificates have fingerprints that begin so; give more digits")
    return found[0]
