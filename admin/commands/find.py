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
    """The certificate meant, and others that carry the same name; ends the command when it is not clear.

    A text with a slash is a path. Others are a name or a fingerprint, and a file's name only where they are neither:
    what lies in the current directory is not to decide what a host name means.
    """
    if "/" in which:
        return _in_file(reading, which)
    try:
        about = asked(which)
    except InvalidName:
        about = Asked()
    if carrying := _carrying(reading, about):
        return carrying[0], carrying[1:]
    digits = which.replace(":", "").lower()
    found = [one for one in reading.certificates if one.fingerprint.startswith(digits)]
    if len(digits) >= MIN_PREFIX and len(found) > 1:
        fingerprints = ", ".join(one.fingerprint[: max(SHORT, len(digits) + 4)] for one in found)
        fail(f"{plain(which)!r} is the beginning of {len(found)} fingerprints ({fingerprints}); give more digits", 2)
    if len(digits) >= MIN_PREFIX and found:
        return found[0], ()
    if not Path(which).is_file():
        fail(_not_found(reading, which, about.host))
    return _in_file(reading, which)


def find_own(reading: Reading, which: str) -> Sequence[CertifiedKey]:
    """Those that carry this name themselves, best first, or the one with this fingerprint or in this file.

    A wildcard that only covers the name is not meant by those who change something; ends the command where none is.
    """
    one, others = find(reading, which)
    if "/" in which or one.fingerprint.startswith(which.replace(":", "").lower()):
        return (one, *others)
    try:
        about = asked(which)
    except InvalidName:
        return (one, *others)
    carry = [each for each in (one, *others) if about.host in each.names or about.address in each.addresses]
    if not carry:
        others_too = _listed((one, *others))
        fail(f"no certificate itself carries {plain(which)!r}; say by its fingerprint which one: {others_too}", 2)
    return carry


def find_exactly(reading: Reading, which: str) -> CertifiedKey:
    """The only one of these; ends the command where there are several."""
    found = find_own(reading, which)
    if len(found) > 1:
        fail(f"{len(found)} certificates carry {plain(which)!r}; say by its fingerprint which one: {_listed(found)}", 2)
    return found[0]


def _listed(found: Sequence[CertifiedKey]) -> str:
    return ", ".join(f"{one.fingerprint[:SHORT]} ({plain(one.paths[0])})" for one in found)


def _in_file(reading: Reading, path: str) -> tuple[CertifiedKey, Sequence[CertifiedKey]]:
    held = _held_by(reading, path)
    if not held:
        fail(f"no certificate that can be served is in {plain(path)}; see 'snigate certs list'")
    return held[0], held[1:]


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
