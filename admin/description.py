"""One certificate in the API's and the commands' words: who it is for, how good it is now, what it serves."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from admin import answers
from admin.dane import tlsa, tlsa_records
from admin.text import iso, iso_or_none, plain
from certstore.certificate import parse, read_certificate
from certstore.certified_key import CertifiedKey
from certstore.key_types import of_key_type
from certstore.outline import public_key_digest
from certstore.ranking import Standing, reason, standing
from certstore.selector import Selector
from config.model import Config

DAY = 86400.0
MAX_CACHED = 2048  # bytes of a certificate whose identity is kept for the next who asks
STANDINGS: dict[Standing, answers.StandingWord] = {
    Standing.TRUSTED: "trusted",
    Standing.SELF_SIGNED: "self-signed",
    Standing.VALID: "valid",
    Standing.EXPIRED: "expired",
    Standing.NOT_YET_VALID: "not-yet-valid",
}


class Identity(NamedTuple):
    """What never changes about a certificate and is not in a CertifiedKey. Names are RFC 4514 text, safe to show."""

    subject: str
    issuer: str
    serial: str
    spki: bytes


def identity(der: bytes) -> Identity:
    """Read a certificate that was accepted before."""
    return _identity(der) if len(der) <= MAX_CACHED else _identity.__wrapped__(der)


@lru_cache(maxsize=16384)
def _identity(der: bytes) -> Identity:
    read = read_certificate(der)
    parsed = parse(read)
    return Identity(
        _name(parsed, "subject"),
        _name(parsed, "issuer"),
        _serial(parsed),
        public_key_digest(der),
    )


def describe(
    one: CertifiedKey, selector: Selector, now: float, config: Config, *, is_default: bool
) -> answers.Certificate:
    """Everything about a certificate at `now` (Unix seconds); `selector` tells what it serves."""
    known = identity(one.leaf)
    data = tlsa(known.spki)
    return answers.Certificate(
        fingerprint=one.fingerprint,
        names=one.names,
        addresses=one.addresses,
        subject=known.subject,
        issuer=known.issuer,
        serial=known.serial,
        key_type=one.key_type,
        not_before=iso(one.not_before),
        not_after=iso(one.not_after),
        days_left=days_left(one, now),
        standing=STANDINGS[standing(one, now)],
        reason=reason(one, now),
        self_signed=one.self_signed,
        trusted=one.is_trusted(now),
        trusted_until=iso_or_none(one.trusted_until),
        spki=known.spki.hex(),
        pin_sha256=base64.b64encode(known.spki).decode(),
        tlsa=data,
        tlsa_records=tlsa_records(one, data, config),
        chain_length=len(one.chain),
        chain=tuple(identity(link).subject for link in one.chain),
        paths=tuple(map(plain, one.paths)),
        is_default=is_default,
        serves=tuple(selected_for(one, selector)),
    )


def days_left(one: CertifiedKey, now: float) -> float:
    """Days until notAfter, to a tenth."""
    return round((one.not_after - now) / DAY, 1) + 0.0  # and no -0.0


def selected_for(one: CertifiedKey, selector: Selector) -> Iterator[answers.Selected]:
    """The names and addresses that the certificate is served for now, to all clients or to some.

    A wildcard stands for every name under it that has no certificate of its own.
    """
    own = int(of_key_type(one.key_type))
    asked = [(name, name, None) for name in one.names] + [(address, None, address) for address in one.addresses]
    for shown, host, address in asked:
        mine = selector.select(host, own, address, strict=True)
        if mine is None or mine.certificate.fingerprint != one.fingerprint:
            continue
        first = selector.select(host, local_address=address, strict=True)
        preferred = first is not None and first.certificate.fingerprint == one.fingerprint
        yield answers.Selected(shown, mine.level.value, mine.level.words, preferred)


def _serial(parsed: x509.Certificate) -> str:
    with warnings.catch_warnings(
        action="ignore", category=CryptographyDeprecationWarning
    ):  # of zero, as some roots have
        return f"{parsed.serial_number:x}"


def _name(parsed: x509.Certificate, which: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an attribute of a length that RFC 5280 forbids
        try:
            name: x509.Name = getattr(parsed, which)
            return plain(name.rfc4514_string())
        except ValueError:
            return "(not readable)"
