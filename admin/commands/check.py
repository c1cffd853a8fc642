"""`snigate check`: everything that is wrong, or may be, before serving."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from admin.commands.output import ConfigOption, JsonOption, say, say_json
from admin.explanation import configured_hosts
from admin.findings import Finding, findings, of_configuration
from admin.reading import read
from admin.text import count, plain
from config.errors import ConfigError
from config.load import load_or_defaults


class Checked(msgspec.Struct, frozen=True):
    """The answer of `check --json`. `certificates` and `hosts` are null when the configuration could not be loaded."""

    ok: bool  # no errors; there may be warnings
    configuration: str | None  # the main file; null: built-in defaults
    certificates: int | None
    hosts: int | None
    findings: tuple[Finding, ...]


def check(
    config: ConfigOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing when nothing is found.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the configuration and load every certificate. Opens no socket and writes nothing."""
    checked = _check(config)
    if as_json:
        say_json(checked)
    else:
        _show(checked, quiet)
    raise typer.Exit(0 if checked.ok else 1)


def _check(config: ConfigOption) -> Checked:
    try:
        loaded = load_or_defaults(config)
    except ConfigError as error:
        return Checked(
            False, plain(str(config)) if config else None, None, None, tuple(of_configuration(error.problems))
        )
    reading = read(loaded)
    found = findings(reading)
    return Checked(
        ok=not any(one.severity == "error" for one in found),
        configuration=plain(str(loaded.source)) if loaded.source is not None else None,
        certificates=len(reading.index),
        hosts=len(configured_hosts(loaded)),
        findings=tuple(found),
    )


def _show(checked: Checked, quiet: bool) -> None:
    for one in checked.findings:
        say(f"{one.severity}: {one.where}: {one.message}", "red" if one.severity == "error" else "yellow")
    if quiet:
        return
    errors = sum(one.severity == "error" for one in checked.findings)
    warnings = len(checked.findings) - errors
    found = f"{count(errors, 'error')}, {count(warnings, 'warning')}" if checked.findings else "nothing is wrong"
    if checked.certificates is None or checked.hosts is None:
        say(f"{found}; certificates are looked at once the configuration can be loaded")
        return
    where = checked.configuration or "built-in defaults"
    say(f"{where}: {count(checked.certificates, 'certificate')}, {count(checked.hosts, 'configured host')}: {found}")
