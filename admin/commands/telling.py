"""What commands that change certificates ask and say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from admin import answers
from admin.commands.files import hand_out
from admin.commands.find import SHORT
from admin.commands.output import fail, say, say_json, table
from admin.text import count
from certstore.certified_key import CertifiedKey
from certstore.issue import Names

_SHOWN = 20  # names that change hands, in a table


def say_forecast(done: answers.Done) -> None:
    """What would come of it, where somebody is there to read it."""
    if sys.stdin.isatty():
        _say_changes(done.changes)
        for note in done.notes:
            say(f"Note: {note}.", "yellow")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere --yes is wanted."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Say --yes", 2)
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def say_request(made: answers.Request, output: Path | None, as_json: bool) -> None:
    if as_json:
        say_json(made)
        return
    hand_out(made.request.encode(), output)
    typer.echo(f"The key waits in {made.path}. Import the certificate with: snigate certs import FILE", err=True)


def list_requests(waiting: Sequence[answers.Request], as_json: bool) -> None:
    if as_json:
        say_json(list(waiting))
    elif waiting:
        rows = [("\n".join((*one.names, *one.addresses)), one.id[:SHORT], one.key_type, one.made_at) for one in waiting]
        table(("Names", "Id", "Key", "Made"), rows)
    else:
        say("No request waits for its certificate.")


_WORDS = {
    "new": "Made",
    "renew": "Renewed",
    "import": "Imported",
    "delete": "Deleted",
    "withdraw": "Withdrawn",
    "default": "The default is set.",
}


def say_done(done: Sequence[answers.Done], as_json: bool, *, is_forecast: bool = False) -> None:
    """`is_forecast`: what comes of it was said before."""
    if as_json:
        say_json(list(done))
        return
    for one in done:
        word = _WORDS[one.action]
        said = f"{word} {one.fingerprint[:SHORT]}" if one.fingerprint is not None else word
        say(f"{said}{': ' if one.paths else ''}{', '.join(one.paths)}", "green")
        if is_forecast:
            continue
        for note in one.notes:
            say(f"Note: {note}.", "yellow")
        if one.action != "withdraw":
            _say_changes(one.changes)


def _say_changes(changes: Sequence[answers.Change]) -> None:
    if not changes:
        say("Every name is served what it was served before.")
        return
    rows = [
        (one.name or "(names that no certificate has)", _served(one.before), _served(one.after))
        for one in changes[:_SHOWN]
    ]
    table(("Name", "Served before", "Served now"), rows)
    if len(changes) > _SHOWN:
        say(f"and {count(len(changes) - _SHOWN, 'other name')}")


def listed(one: Names | CertifiedKey) -> str:
    names = (*(one.hosts if isinstance(one, Names) else one.names), *one.addresses) or ("no name",)
    return ", ".join(names[:4]) + (f" and {count(len(names) - 4, 'other')}" if len(names) > 4 else "")


def _served(one: answers.Served | None) -> str:
    return f"{one.fingerprint[:SHORT]}, level {one.level} ({one.level_words})" if one is not None else "nothing"
