"""The nine levels: which of several certificates for a name is the better one, at a given time.

Pure functions of a certificate, the way it matched, the time and the order. Nothing here depends on the order in
which files were loaded: `rank` is a total order, ending with the fingerprint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import Literal

from certstore.certified_key import CertifiedKey

Order = Literal["kerio", "unexpired-first"]


class Level(IntEnum):
    """The nine levels of the selection order; lower is better (in the "kerio" order)."""

    TRUSTED_EXACT = 1
    SELF_SIGNED_EXACT = 2
    VALID_EXACT = 3
    EXPIRED_EXACT = 4
    TRUSTED_WILDCARD = 5
    SELF_SIGNED_WILDCARD = 6
    VALID_WILDCARD = 7
    EXPIRED_WILDCARD = 8
    DEFAULT = 9

    @property
    def words(self) -> str:
        """The level as people read it: "trusted, exact"."""
        if self is Level.DEFAULT:
            return "the default certificate"
        quality, match = self.name.lower().rsplit("_", 1)
        return f"{quality.replace('_', '-')}, {match}"


class Standing(Enum):
    """How good a certificate is by itself, at one moment. The value is its place among the levels of one match."""

    TRUSTED = 0
    SELF_SIGNED = 1
    VALID = 2
    EXPIRED = 3
    NOT_YET_VALID = 4


Rank = tuple[int, int, int, int, int, str]

# Where level n stands in each order. "unexpired-first" moves 4 behind 7 and ahead of 8.
_POSITION: dict[Order, dict[Level, int]] = {
    "kerio": {level: level.value for level in Level},
    "unexpired-first": {level: position for position, level in enumerate(map(Level, (1, 2, 3, 5, 6, 7, 4, 8, 9)))},
}


def standing(certificate: CertifiedKey, now: float) -> Standing:
    """Tell how good `certificate` is at `now` (Unix seconds)."""
    if now < certificate.not_before:
        return Standing.NOT_YET_VALID
    if now >= certificate.not_after:
        return Standing.EXPIRED
    if certificate.is_trusted(now):
        return Standing.TRUSTED
    return Standing.SELF_SIGNED if certificate.self_signed else Standing.VALID


def level(certificate: CertifiedKey, wildcard: bool, now: float) -> Level:
    """The level (1 to 8) of a certificate that matched by its exact name, or by a wildcard, at `now`."""
    place = min(standing(certificate, now).value, Standing.EXPIRED.value)
    return Level(1 + place + (4 if wildcard else 0))


def rank(certificate: CertifiedKey, wildcard: bool, now: float, order: Order) -> Rank:
    """A key to sort candidates by, best first.

    Level by the order; really expired before not yet valid; ECDSA before EdDSA before RSA (a client that cannot use
    the first gets the next); then the latest notAfter, the latest notBefore, the fingerprint.
    """
    return (
        _POSITION[order][level(certificate, wildcard, now)],
        standing(certificate, now) is Standing.NOT_YET_VALID,
        key_preference(certificate.key_type),
        -certificate.not_after,
        -certificate.not_before,
        certificate.fingerprint,
    )


def key_preference(key_type: str) -> int:
    """0 for ECDSA, 1 for EdDSA, 2 for RSA: the cheaper signature first, and what every client can use last."""
    if key_type.startswith("ecdsa"):
        return 0
    return 2 if key_type.startswith("rsa") else 1


def next_change(certificates: Iterable[CertifiedKey], now: float) -> float:
    """When the clock alone may next change how these rank, in Unix seconds; infinity for never."""
    return min(
        (
            moment
            for certificate in certificates
            for moment in (
                certificate.not_before,
                certificate.not_after,
                certificate.trusted_from,
                certificate.trusted_until,
            )
            if moment > now
        ),
        default=math.inf,
    )


def reason(certificate: CertifiedKey, now: float) -> str:
    """Why the certificate has the standing it has, as one clause for people."""
    match standing(certificate, now):
        case Standing.TRUSTED:
            return f"chain verifies, trusted until {_day(min(certificate.not_after, certificate.trusted_until))}"
        case Standing.SELF_SIGNED:
            return f"signed by its own key, valid until {_day(certificate.not_after)}"
        case Standing.VALID:
            return f"no chain to a trusted root, valid until {_day(certificate.not_after)}"
        case Standing.EXPIRED:
            return f"expired on {_day(certificate.not_after)}"
        case Standing.NOT_YET_VALID:
            return f"not valid before {_day(certificate.not_before)}"


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
