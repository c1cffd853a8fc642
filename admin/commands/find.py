"""Which certificate an operator means."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from admin.commands.output import fail
from admin.explanation import Asked, asked
from admin.reading import Reading
from admin.text import plain
from certstore.certified_key import CertifiedKey
from certstore.names import InvalidName
from certstore.ranking import Level

SHORT = 16  # digits of a fingerprint that are shown
MIN_PREFIX = 4  # digits of a fingerprint that name a certificate
_FEW_DIGITS = re.compile(rf"[0-9A-Fa-f:]{{1,{MIN_PREFIX - 1}}}")


def find(reading: Reading, which: str) -> tuple[CertifiedKey, Sequence[CertifiedKey]]:
    """The certificate meant, and others that carry the same name; ends the command when it is not clear."""
    if "/" in which or Path(which).is_file():
        if not (held := _held_by(reading, which)):
            fail(f"no certificate that can be served is in {plain(which)}; see 'snigate certs list'")
        return held[0], held[1:]
    try:
        about = asked(which)
    except InvalidName:
        about = Asked()
    if carrying := _carrying(reading, about):
        return carrying[0], carrying[1:]
    digits = which.replace(":", "").lower()
    found = [one for one in reading.certificates if one.fingerprint.startswith(digits)]
    if len(digits) < MIN_PREFIX or not found:
        fail(_not_found(reading, which, about.host))
    if len(found) > 1:
        fingerprints = ", ".join(one.fingerprint[: max(SHORT, len(digits) + 4)] for one in found)
        fail(f"{plain(which)!r} is the beginning of {len(found)} fingerprints ({fingerprints}); give more digits", 2)
    return found[0], ()


def _held_by(reading: Reading, path: str) -> Sequence[CertifiedKey]:
    """Every certificate that a file holds, or whose key it holds."""
    wanted = os.path.realpath(path)
    return [one for one in reading.certificates if wanted in map(os.path.realpath, one.paths)]


def _carrying(reading: Reading, about: Asked) -> Sequence[CertifiedKey]:
    """Every certificate with this name or address, best first; the one made at first start comes last."""
    ranked = [one.selection for one in reading.selector.explain(about.host, about.address)]
    found = {one.certificate.fingerprint: one.certificate for one in ranked if one.level is not Level.DEFAULT}
    made = reading.snapshot.made
    if made is not None and (about.host in made.names or about.address in made.addresses):
        found.setdefault(made.fingerprint, made)
    return tuple(found.values())


def _not_found(reading: Reading, which: str, host: str | None) -> str:
    shown = repr(plain(which))
    if host is not None and (waiting := reading.waiting_for_key(host)):
        return f"no certificate for {shown} can be served: {plain(waiting[0])} holds one, and lacks its private key"
    if _FEW_DIGITS.fullmatch(which):
        return (
            f"no certificate is for {shown}, and of a fingerprint at least {MIN_PREFIX} digits are wanted; "
            "see 'snigate certs list'"
        )
    return f"no certificate is for {shown}, nor has a fingerprint that begins so; see 'snigate certs list'"
