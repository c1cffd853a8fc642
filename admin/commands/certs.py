"""`snigate certs`: the certificates that the directories hold."""

from __future__ import annotations

from typing import Annotated

import typer

from admin import answers
from admin.commands import manage
from admin.commands.find import SHORT, find
from admin.commands.output import (
    CONTEXT,
    Cell,
    ConfigOption,
    JsonOption,
    facts,
    load,
    say,
    say_held_before,
    say_json,
    table,
)
from admin.description import describe
from admin.explanation import best
from admin.reading import read
from admin.text import count, plain

app = typer.Typer(
    no_args_is_help=True, help="Look at certificates, and manage them.", rich_markup_mode=None, context_settings=CONTEXT
)

NAMES = 4  # names shown in a row of the list
URGENT, SOON = 7.0, 30.0  # days


@app.command("list", short_help="List every certificate.")
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
    one, others = find(reading, which)
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


for _name, _command, _help in (
    ("new", manage.new, "Make a self-signed certificate."),
    ("request", manage.request, "Make a request for a certificate (CSR), or list those that wait."),
    ("import", manage.import_, "Import a certificate, its chain, its key."),
    ("export", manage.export, "Export a certificate, its chain or its key."),
    ("renew", manage.renew, "Make a certificate anew with the same names."),
    ("default", manage.default, "Let a certificate be the default."),
    ("delete", manage.delete, "Move a certificate to the trash."),
):
    app.command(_name, short_help=_help)(_command)
