"""The command line. Exit status 0: good, 1: a problem was found, 2: wrong usage."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated

import typer

from admin.commands import certs, trust
from admin.commands.check import check
from admin.commands.explain import explain
from admin.commands.output import CONTEXT, ConfigOption
from admin.commands.server import reload, serve, status
from admin.version import openssl_version, python_version, version

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=CONTEXT,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"snigate {version()} ({openssl_version()}, Python {python_version()})")
        raise typer.Exit


@app.callback()
def _snigate(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
    _config: ConfigOption = None,
) -> None:
    """A TLS-terminating SNI proxy that swaps certificates while it runs."""


app.command()(serve)
app.command()(check)
app.command()(explain)
app.command(short_help="Show how the running server is.")(status)
app.command()(reload)
app.add_typer(certs.app, name="certs")
app.add_typer(trust.app, name="trust")


def main() -> None:
    """The `snigate` command."""
    _fill_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal's encoding lacks
    try:
        app()
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries once more at its end
        typer.echo(f"standard output cannot be written ({error.strerror})", err=True)
        sys.exit(1)


def _fill_standard_streams() -> None:
    """Give a stream that was closed before the start to nobody; else the next file opened would take its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
