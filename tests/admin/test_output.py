from __future__ import annotations

import pytest
from rich.console import Console

from admin.commands import output
from admin.commands.output import facts, say, table

COLUMNS = ("", "Names", "Why", "File")
LONG = "/srv/" + "x" * 100 + ".crt"
ROWS = [("*", "a.example\nb.example", "because of this", LONG), ("", "c", "", "/d")]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        output, "Console", lambda **given: Console(**given, width=80, force_terminal=True, color_system=None)
    )


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_pipe_gets_every_row_on_lines_of_its_own_without_rule_or_blanks_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table(COLUMNS, ROWS)
    assert _lines(capsys) == [
        "   Names      Why              File",
        f"*  a.example  because of this  {LONG}",
        "   b.example",
        "   c                           /d",
    ]


@pytest.mark.usefixtures("terminal")
def test_a_narrow_terminal_gets_what_is_long_below_its_row_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, ROWS)
    assert _lines(capsys) == [
        "   Names",
        "────────────",
        "*  a.example",
        "   b.example",
        "    because of this",
        f"    {LONG}",
        "   c",
        "    /d",
    ]


@pytest.mark.usefixtures("terminal")
def test_a_table_that_fits_a_terminal_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, ROWS[1:])
    assert _lines(capsys) == ["  Names  Why  File", "──────────────────", "  c           /d"]


@pytest.mark.usefixtures("terminal")
def test_long_values_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    facts([("Files", f"{LONG}\n/d"), ("Key", "rsa")])
    say(LONG)
    assert _lines(capsys) == [f"Files  {LONG}", "       /d", "Key    rsa", LONG]


def test_wide_characters_take_their_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table(("A", "B"), [("\u65e5\u672c", "x"), ("a", "y")])
    assert _lines(capsys) == ["A     B", "\u65e5\u672c  x", "a     y"]
