"""How commands speak: results to stdout, errors to stderr, `--json` where a machine reads.

Colour only on a terminal (and not with NO_COLOR). A terminal's width is kept to; a pipe gets whole lines. Texts are
shown as they are: Rich's markup is off, and control characters are escaped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from admin.text import plain
from config.errors import ConfigError
from config.load import load_or_defaults
from config.model import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The TOML file; without it ./snigate.toml, then /etc/snigate/snigate.toml, then built-in defaults.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON.", show_default=False)]

_PIPE_WIDTH = 10_000  # columns: nothing is folded or cut for a machine

FOLDED = frozenset({"Host", "Names", "Why", "File", "Addresses"})  # columns

Cell = str | tuple[str, str]  # a text, or a text and its style


def console() -> Console:
    """Standard output."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def say(text: str, style: str | None = None) -> None:
    """One line to standard output."""
    console().print(Text(plain(text), style=style or ""), soft_wrap=True)


def say_json(value: Any) -> None:
    """A structure, as indented JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A table; on a terminal that is too narrow, the columns of FOLDED are."""
    drawn = Table(*columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    for name, column in zip(columns, drawn.columns, strict=True):
        column.overflow, column.no_wrap = "fold", name not in FOLDED
    for row in rows:
        drawn.add_row(*(_text(cell) for cell in row))
    console().print(drawn)


def facts(rows: Sequence[tuple[str, Cell]]) -> None:
    """Names and values, one below the other."""
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    for name, cell in rows:
        drawn.add_row(name, _text(cell))
    console().print(drawn)


def fail(message: str, status: int = 1) -> NoReturn:
    """End with a sentence on stderr: status 1 is a problem found, 2 wrong usage."""
    typer.echo("\n".join(map(plain, message.split("\n"))), err=True)
    raise typer.Exit(status)


def load(config: Path | None) -> Config:
    """The configuration; ends the command where it has problems, naming all of them."""
    try:
        return load_or_defaults(config)
    except ConfigError as error:
        fail(str(error))


def _text(cell: Cell) -> Text:
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return Text("\n".join(map(plain, text.split("\n"))), style=style)
