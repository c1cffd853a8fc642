"""`snigate trust`: the root certificates that chains may lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from admin import answers
from admin.audit import of_command
from admin.commands.files import content
from admin.commands.find import SHORT
from admin.commands.manage import YesOption, managing
from admin.commands.output import CONTEXT, ConfigOption, JsonOption, say, say_json, table
from admin.commands.telling import confirm

app = typer.Typer(
    no_args_is_help=True, help="Manage trusted root certificates.", rich_markup_mode=None, context_settings=CONTEXT
)

EveryOption = Annotated[bool, typer.Option("--all", "-a", help="The system's and configured ones too.")]


@app.command("list")
def list_(every: EveryOption = False, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the roots that were added; with --all, every one that is trusted."""
    with managing(config) as (management, _):
        found = [one for one in management.roots.every() if every or one.added]
        if as_json:
            say_json(found)
        elif found:
            table(
                ("Root", "Subject", "Until", "From"),
                [
                    (one.fingerprint[:SHORT], one.subject, one.not_after, one.path or "system or configuration")
                    for one in found
                ],
            )
        else:
            say("No root was added; --all lists those of the system and the configuration.")


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Root certificates, PEM or DER.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust root certificates: those whose chain leads to one are on level 1."""
    with managing(config) as (management, _):
        _say("Added", management.roots.add(of_command(), [(str(path), content(path)) for path in files]), as_json)


@app.command()
def remove(
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="The beginning of its fingerprint.")],
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a root no more that was added."""
    with managing(config) as (management, _):
        confirm(f"Trust {fingerprint} no more?", yes=yes)
        _say("Removed", [management.roots.remove(of_command(), fingerprint)], as_json)


def _say(word: str, found: Sequence[answers.Root], as_json: bool) -> None:
    if as_json:
        say_json(list(found))
        return
    for one in found:
        say(f"{word} {one.fingerprint[:SHORT]}: {one.subject}", "green")
