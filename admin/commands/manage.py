"""`snigate certs new`, `request`, `import`, `export`, `renew`, `default` and `delete`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from admin import answers
from admin.audit import of_command
from admin.commands.find import SHORT, find
from admin.commands.output import ConfigOption, JsonOption, fail, load, say, say_json, table
from admin.export import PARTS, SECRET
from admin.known import known_by
from admin.management import DAYS, KEY_TYPE, Management
from admin.reading import Reading, read
from admin.text import count
from certstore.errors import CertstoreError
from certstore.incoming import MAX_BYTES
from certstore.issue import KEY_TYPES, Subject
from certstore.names import InvalidName, canonical_name
from certstore.private_file import write_private_file

_SHOWN = 20  # names that change hands, in a table

NamesArgument = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Host names, wildcards and IP addresses.", show_default=False)
]
WhichArgument = Annotated[
    str,
    typer.Argument(metavar="WHICH", help="A host name, the beginning of a SHA-256 fingerprint, or the path of a file."),
]
KeyTypeOption = Annotated[str, typer.Option("--key-type", help=f"One of {', '.join(KEY_TYPES)}.")]
DaysOption = Annotated[int, typer.Option("--days", help="How long a self-signed certificate is valid.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)]


def new(
    names: NamesArgument,
    key_type: KeyTypeOption = KEY_TYPE,
    days: DaysOption = DAYS,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a self-signed certificate, served at once where no better one is."""
    with managing(config) as (management, _):
        _say_done([management.new(of_command(), names, key_type, days)], as_json)


def request(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Host names, wildcards and IP addresses.", show_default=False),
    ] = None,
    key_type: KeyTypeOption = KEY_TYPE,
    organization: Annotated[str, typer.Option("--organization", "-O", help="Its owner.")] = "",
    unit: Annotated[str, typer.Option("--unit", help="A part of the organization.")] = "",
    locality: Annotated[str, typer.Option("--locality", help="A town.")] = "",
    state: Annotated[str, typer.Option("--state", help="A state or province.")] = "",
    country: Annotated[str, typer.Option("--country", help="Two letters, such as DE.")] = "",
    email: Annotated[str, typer.Option("--email", help="An address.")] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file for the request.")] = None,
    show: Annotated[str | None, typer.Option("--show", help="A request that waits: a name or its id.")] = None,
    withdraw: Annotated[
        str | None, typer.Option("--withdraw", help="Move a request, and its key, to the trash.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and a request for a certificate (CSR); without names, list the requests that wait for theirs.

    The key stays here, and is found when the certificate is imported.
    """
    with managing(config) as (management, _):
        if withdraw is not None:
            _say_done([management.withdraw(of_command(), management.waiting(withdraw))], as_json)
        elif show is not None:
            _hand_out(management.waiting(show).request, output)
        elif names:
            subject = Subject(organization, unit, locality, state, country, email)
            made = management.request(of_command(), names, subject, key_type)
            _say_request(made, output, as_json)
        else:
            _list_requests(management.requests(), as_json)


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="PEM, DER or PKCS#12, in any order; - is standard input.")
    ],
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="A file with the passphrase of an encrypted key.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a certificate: one that a CA has signed, or one with its key. Chains are put in order, and completed."""
    with managing(config) as (management, _):
        contents = [(str(path), content(path)) for path in files]
        passphrase = _passphrase(passphrase_file) if passphrase_file is not None else None
        try:
            done = management.import_(of_command(), contents, passphrase)
        except CertstoreError as error:
            if passphrase is not None or "passphrase" not in str(error) or not sys.stdin.isatty():
                raise
            done = management.import_(of_command(), contents, typer.prompt("Passphrase", hide_input=True, err=True))
        _say_done(done, as_json)


def export(
    which: WhichArgument,
    part: Annotated[str, typer.Option("--part", "-p", help=f"One of {', '.join(PARTS)}.")] = "fullchain",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; only you can read it.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="A file with a passphrase for PKCS#12.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Export a certificate, its chain, or the request for it anew; its private key only with --part key or pkcs12."""
    wanted = next((one for one in PARTS if one == part), None)
    if wanted is None:
        fail(f"{part!r} is no part of a certificate; choose from {', '.join(PARTS)}", 2)
    if wanted in SECRET and output is None and sys.stdout.isatty():
        fail("a private key is not shown on a terminal; say --output FILE", 2)
    with managing(config) as (management, reading):
        passphrase = _passphrase(passphrase_file) if passphrase_file is not None else None
        found = management.export(of_command(), find(reading, which)[0], wanted, passphrase)
        _hand_out(found.data, output)


def renew(
    which: WhichArgument,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Not the same key: TLSA records and pins will change.")
    ] = False,
    days: DaysOption = DAYS,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file for the request.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a certificate anew, with the same names and key: a self-signed one at once, else a request for its CA."""
    with managing(config) as (management, reading):
        done = management.renew(of_command(), find(reading, which)[0], new_key=new_key, days=days)
        if isinstance(done, answers.Request):
            _say_request(done, output, as_json)
        else:
            _say_done([done], as_json)


def default(
    which: WhichArgument,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a certificate be the default: served to clients that ask for a name that no certificate has, or for none."""
    with managing(config) as (management, reading):
        host = _host(reading, which)
        _confirm(management.set_default(None, host), f"Make {host} the default?", yes=yes or as_json)
        _say_done([management.set_default(of_command(), host)], as_json)


def delete(
    which: WhichArgument, yes: YesOption = False, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Move a certificate and its key to the trash (in the state directory), after saying what is served then."""
    with managing(config) as (management, reading):
        certificate = find(reading, which)[0]
        name = (*certificate.names, *certificate.addresses, certificate.fingerprint[:SHORT])[0]
        _confirm(management.delete(None, certificate), f"Delete {name}?", yes=yes or as_json)
        _say_done([management.delete(of_command(), certificate)], as_json)


@contextmanager
def managing(config: Path | None) -> Iterator[tuple[Management, Reading]]:
    """The actions over the directories as they are now; what is refused ends the command with its sentence."""
    loaded = load(config)
    reading = read(loaded)
    try:
        yield Management(loaded, lambda: known_by(reading)), reading
    except CertstoreError as error:
        fail(str(error))


def _host(reading: Reading, which: str) -> str:
    """The host name meant: as given, or the first of a certificate's that is no wildcard."""
    try:
        return canonical_name(which)
    except InvalidName:
        pass
    names = [name for name in find(reading, which)[0].names if not name.startswith("*")]
    if not names:
        fail("a certificate for wildcards or addresses alone is named by a host name that it covers", 2)
    return names[0]


def content(path: Path) -> bytes:
    """A file to be handed in, as far as it could be taken; ends the command where it cannot be read."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        fail(f"{path} cannot be read ({os.strerror(error.errno or 0)})")


def _passphrase(path: Path) -> str:
    lines = content(path).decode(errors="replace").splitlines()
    return lines[0] if lines else ""


def _hand_out(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        write_private_file(output.absolute(), data)
    except OSError as error:
        fail(f"{output} cannot be written ({os.strerror(error.errno or 0)})")
    say(f"Written to {output}, which only you can read.")


def _confirm(done: answers.Done, question: str, *, yes: bool) -> None:
    """On a terminal, say what would come of it and ask; elsewhere --yes is wanted."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Say --yes", 2)
    _say_changes(done.changes)
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def _say_request(made: answers.Request, output: Path | None, as_json: bool) -> None:
    if as_json:
        say_json(made)
        return
    _hand_out(made.request.encode(), output)
    typer.echo(f"The key waits in {made.path}. Import the certificate with: snigate certs import FILE", err=True)


def _list_requests(waiting: Sequence[answers.Request], as_json: bool) -> None:
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


def _say_done(done: Sequence[answers.Done], as_json: bool) -> None:
    if as_json:
        say_json(list(done))
        return
    for one in done:
        word = _WORDS[one.action]
        said = f"{word} {one.fingerprint[:SHORT]}" if one.fingerprint is not None else word
        say(f"{said}{': ' if one.paths else ''}{', '.join(one.paths)}", "green")
        for note in one.notes:
            say(f"Note: {note}.", "yellow")
        _say_changes(one.changes)


def _say_changes(changes: Sequence[answers.Change]) -> None:
    if not changes:
        say("No name changes hands.")
        return
    rows = [
        (one.name or "(names that no certificate has)", _served(one.before), _served(one.after))
        for one in changes[:_SHOWN]
    ]
    table(("Name", "Served before", "Served now"), rows)
    if len(changes) > _SHOWN:
        say(f"and {count(len(changes) - _SHOWN, 'other name')}")


def _served(one: answers.Served | None) -> str:
    return f"{one.fingerprint[:SHORT]}, level {one.level} ({one.level_words})" if one is not None else "nothing"
