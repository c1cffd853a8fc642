"""`snigate certs new`, `request`, `import`, `export`, `renew`, `default` and `delete`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from admin import answers
from admin.audit import of_command
from admin.commands.files import asked_passphrase, content, hand_out, insist_on_new, passphrase_in
from admin.commands.find import SHORT, find, find_exactly, find_own
from admin.commands.output import ConfigOption, JsonOption, fail, load
from admin.commands.telling import confirm, list_requests, listed, say_done, say_forecast, say_request
from admin.export import PARTS, SECRET
from admin.known import known_by
from admin.management import DAYS, KEY_TYPE, Management
from admin.reading import Reading, read
from certstore.errors import CertstoreError
from certstore.issue import KEY_TYPES, Subject
from certstore.names import InvalidName, canonical_name

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
        say_done([management.new(of_command(), names, key_type, days)], as_json)


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
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and a request for a certificate (CSR); without names, list the requests that wait for theirs.

    The key stays here, and is found when the certificate is imported.
    """
    with managing(config) as (management, _):
        if withdraw is not None:
            waiting = management.waiting(withdraw)
            confirm(f"Withdraw the request for {listed(waiting.names)}, and move its key to the trash?", yes=yes)
            say_done([management.withdraw(of_command(), waiting)], as_json)
        elif show is not None:
            hand_out(management.waiting(show).request, output)
        elif names:
            insist_on_new(output)
            subject = Subject(organization, unit, locality, state, country, email)
            made = management.request(of_command(), names, subject, key_type)
            say_request(made, output, as_json)
        else:
            list_requests(management.requests(), as_json)


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
        passphrase = passphrase_in(passphrase_file) if passphrase_file is not None else None
        try:
            done = management.import_(of_command(), contents, passphrase)
        except CertstoreError as error:
            if passphrase is not None or getattr(error, "field", "") != "passphrase" or not sys.stdin.isatty():
                raise
            done = management.import_(of_command(), contents, asked_passphrase(str(error).partition(":")[0]))
        say_done(done, as_json)


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
        insist_on_new(output)
        passphrase = passphrase_in(passphrase_file) if passphrase_file is not None else None
        if wanted == "pkcs12" and passphrase is None and sys.stdin.isatty():
            passphrase = asked_passphrase("the PKCS#12 file")
        found = management.export(of_command(), find(reading, which)[0], wanted, passphrase)
        hand_out(found.data, output)


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
        insist_on_new(output)
        done = management.renew(of_command(), find_own(reading, which)[0], new_key=new_key, days=days)
        if isinstance(done, answers.Request):
            say_request(done, output, as_json)
        else:
            say_done([done], as_json)


def default(
    which: WhichArgument,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a certificate be the default: served to clients that ask for a name that no certificate has, or for none."""
    with managing(config) as (management, reading):
        host = _host(reading, which)
        if not yes:
            say_forecast(management.set_default(None, host))
        confirm(f"Make the certificate for {host} the default?", yes=yes)
        say_done([management.set_default(of_command(), host)], as_json, is_forecast=not yes)


def delete(
    which: WhichArgument, yes: YesOption = False, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Move a certificate and its key to the trash (in the state directory), after saying what is served then."""
    with managing(config) as (management, reading):
        certificate = find_exactly(reading, which)
        if not yes:
            say_forecast(management.delete(None, certificate))
        confirm(f"Delete {certificate.fingerprint[:SHORT]} for {listed(certificate)}?", yes=yes)
        say_done([management.delete(of_command(), certificate)], as_json, is_forecast=not yes)


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
    with contextlib.suppress(InvalidName):
        host = canonical_name(which)
        if "." in host or reading.index.named(host):
            return host
    names = [name for name in find(reading, which)[0].names if not name.startswith("*")]
    if not names:
        fail("a certificate for wildcards or addresses alone is named by a host name that it covers", 2)
    return names[0]
