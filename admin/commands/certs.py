"""`snigate certs`: the certificates that the directories hold."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from admin import answers
from admin.commands.output import (
    CONTEXT,
    Cell,
    ConfigOption,
    JsonOption,
    facts,
    fail,
    load,
    say,
    say_held_before,
    say_json,
    table,
)
from admin.description import describe
from admin.explanation import Asked, asked, best
from admin.reading import Reading, read
from admin.text import count, plain
from certstore.certified_key import CertifiedKey
from certstore.names import InvalidName
from certstore.ranking import Level

app = typer.Typer(no_args_is_help=True, help="Look at certificates.", rich_markup_mode=None, context_settings=CONTEXT)

SHORT = 16  # digits of a fingerprint that the list shows
MIN_PREFIX = 4  # digits of a fingerprint that name a certificate
NAMES = 4  # names shown in a row of the list
_FEW_DIGITS = re.compile(rf"[0-9A-Fa-f:]{{1,{MIN_PREFIX - 1}}}")
URGENT, SOON = 7.0, 30.0  # days


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List every certificate, what expires next at the top."""
    reading = read(load(config))
    default = reading.default
    found = [
        describe(one, reading.selector, reading.now, reading.config, is_default=one.fingerprint == default)
        for one in sorted(reading.certificates, key=lambda one: (one.not_after, one.fingerprint))
    ]
    if as_json:
        say_json(
            answers.Certificates(
                certificates=tuple(found),
                problems=tuple(
                    answers.RejectedFile(plain(one.path), one.reason, plain(one.message)) for one in reading.problems
                ),
                waiting=tuple(map(plain, sorted(reading.snapshot.waiting))),
                default=best(reading.selector, None),
            )
        )
        return
    if found:
        table(("Certificate", "Names", "Days", "Standing", "Key", "Serves", "File"), [_row(one) for one in found])
    else:
        say("There is no certificate yet: one is made when snigate is first started.")
    say_held_before(reading)


@app.command(short_help="Show everything about one certificate.")
def show(
    which: Annotated[
        str,
        typer.Argument(
            metavar="WHICH", help="A host name, the beginning of a SHA-256 fingerprint, or the path of a file."
        ),
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything about one certificate; for a host name, the one it is served."""
    reading = read(load(config))
    one, others = _find(reading, which)
    described = describe(
        one, reading.selector, reading.now, reading.config, is_default=one.fingerprint == reading.default
    )
    if as_json:
        say_json(described)
        return
    _show(described)
    if others:
        say(f"Also found: {', '.join(other.fingerprint[:SHORT] for other in others)}")
    say_held_before(reading)


def _find(reading: Reading, which: str) -> tuple[CertifiedKey, Sequence[CertifiedKey]]:
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


def _row(one: answers.Certificate) -> tuple[Cell, ...]:
    names = (*one.names, *one.addresses)
    rest = f"\nand {count(len(names) - NAMES, 'other')}" if len(names) > NAMES else ""
    serves = ["default"] if one.is_default else []
    if one.serves:
        serves.append(count(len(one.serves), "name"))
    return (
        one.fingerprint[:SHORT],
        "\n".join(names[:NAMES]) + rest,
        (f"{one.days_left:g}", _urgency(one)),
        (one.standing, _urgency(one)),
        one.key_type,
        ", ".join(serves) or "nothing",
        one.paths[0],
    )


def _urgency(one: answers.Certificate) -> str:
    if one.standing == "expired" or one.days_left < URGENT:
        return "red"
    return "yellow" if one.days_left < SOON or one.standing == "not-yet-valid" else "green"


def _show(one: answers.Certificate) -> None:
    serves = [
        f"{selected.name}: level {selected.level}, {selected.level_words}"
        + ("" if selected.preferred else " (for clients that cannot use the preferred key type)")
        for selected in one.serves
    ]
    if one.is_default:
        serves.append("every name that no certificate covers: level 9, the default certificate")
    facts(
        [
            ("Names", "\n".join((*one.names, *one.addresses)) or "none"),
            ("Subject", one.subject or "(empty)"),
            ("Issuer", one.issuer or "(empty)"),
            ("Chain sent", "\n".join(one.chain) or "no intermediates"),
            ("Serial", one.serial),
            ("Key", one.key_type),
            ("Valid", f"{one.not_before} to {one.not_after}"),
            ("Days left", (f"{one.days_left:g}", _urgency(one))),
            ("Standing", (f"{one.standing}: {one.reason}", _urgency(one))),
            ("SHA-256", one.fingerprint),
            ("Public key pin", one.pin_sha256),
            ("TLSA record", "\n".join((one.tlsa, *one.tlsa_records))),
            ("Files", "\n".join(one.paths)),
            ("Serves now", "\n".join(serves) or "nothing"),
        ]
    )
