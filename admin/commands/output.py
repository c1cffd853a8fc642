"""How commands speak: results to stdout, errors to stderr, `--json` where a machine reads.

Colour only on a terminal (and not with NO_COLOR), and there a table that is too wide puts what is long below. Texts are
shown as they are: Rich's markup is off, and control characters are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from admin.reading import Reading
from admin.text import plain
from admin.troubles import held_before
from config.errors import ConfigError
from config.load import load_or_defaults
from config.model import Config

CONTEXT = {"help_option_names": ["-h", "--help"]}  # of every command


def _given_before(context: typer.Context, value: Path | None) -> Path | None:
    """What --config says: after the command, else before it."""
    if value is None:
        return context.find_root().obj if context.parent is not None else None
    if context.parent is None:
        context.obj = value
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The TOML file; without it ./snigate.toml, then /etc/snigate/snigate.toml, then built-in defaults.",
        show_default=False,
        readable=False,  # what cannot be read is told like all that is wrong with the configuration
        callback=_given_before,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON.", show_default=False)]

BELOW = frozenset({"Why", "File"})  # columns that go below the others where a terminal is too narrow
GAP = "  "  # between columns
INDENT = "    "  # of what goes below

Cell = str | tuple[str, str]  # a text, or a text and its style


def console() -> Console:
    """Standard output."""
    return Console(markup=False, highlight=False, emoji=False)


def say(text: str, style: str | None = None) -> None:
    """One line to standard output."""
    _print([Text(plain(text), style=style or "")])


def say_json(value: Any) -> None:
    """A structure, as indented JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A table; on a terminal that is too narrow, the columns of BELOW stand below their row. Nothing is ever cut."""
    found = [[_lines(cell) for cell in row] for row in rows]
    screen = console()
    if screen.is_terminal and _width(columns, found) > screen.width:
        apart = [place for place, name in enumerate(columns) if name in BELOW]
    else:
        apart = []
    beside = [place for place in range(len(columns)) if place not in apart]
    names = [columns[place] for place in beside]
    widths = _widths(names, [[row[place] for place in beside] for row in found])
    lines = [_beside([Text(name, style="bold") for name in names], widths)]
    if screen.is_terminal:
        lines.append(Text("─" * min(screen.width, sum(widths) + len(GAP) * (len(widths) - 1))))
    for row in found:
        lines += _row([row[place] for place in beside], widths)
        lines += [Text.assemble(INDENT, line) for place in apart for line in row[place] if line]
    _print(lines)


def facts(rows: Sequence[tuple[str, Cell]]) -> None:
    """Names and values, one below the other."""
    found = [[[Text(name, style="bold")], _lines(cell)] for name, cell in rows]
    widths = _widths(("", ""), found)
    _print([line for row in found for line in _row(row, widths)])


def say_held_before(reading: Reading) -> None:
    """Tell where a running server may serve other than what the files hold now."""
    if (sentence := held_before(reading)) is not None:
        say(sentence, "yellow")


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


def _lines(cell: Cell) -> list[Text]:
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return [Text(plain(line), style=style) for line in text.split("\n")]


def _widths(columns: Sequence[str], rows: Sequence[Sequence[Sequence[Text]]]) -> list[int]:
    """The columns that each column of a table takes."""
    return [
        max((cell_len(name), *(line.cell_len for row in rows for line in row[place])))
        for place, name in enumerate(columns)
    ]


def _width(columns: Sequence[str], rows: Sequence[Sequence[Sequence[Text]]]) -> int:
    return sum(_widths(columns, rows)) + len(GAP) * (len(columns) - 1)


def _row(cells: Sequence[Sequence[Text]], widths: Sequence[int]) -> list[Text]:
    """A row's lines: as many as its highest cell has."""
    return [_beside(line, widths) for line in zip_longest(*cells, fillvalue=Text())]


def _beside(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """One line, with no blanks at its end."""
    line = Text()
    for cell, width in zip(cells, widths, strict=True):
        line.append_text(cell).append(" " * (width - cell.cell_len) + GAP)
    line.rstrip()
    return line


def _print(lines: Sequence[Text]) -> None:
    """Whole lines: a terminal folds them by itself, and what is copied from it is whole."""
    console().print(Text("\n").join(lines), soft_wrap=True)
