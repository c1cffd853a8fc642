from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from admin.text import count, iso, iso_or_none, plain


@given(st.text(st.characters()))
def test_whatever_the_text_what_is_shown_is_one_printable_line(text: str) -> None:
    assert plain(text).isprintable()


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_printable_text_is_shown_as_it_is(text: str) -> None:
    assert plain(text) == text or not text.isprintable()


def test_terminal_escapes_overrides_and_undecodable_bytes_are_spelt_out() -> None:
    assert plain("a\x1b[31m\u202eb\udcff\n") == "a\\x1b[31m\\u202eb\\udcff\\n"


def test_moments_are_iso_8601_in_utc() -> None:
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso_or_none(0) is None
    assert iso_or_none(1.5) == "1970-01-01T00:00:01Z"


def test_counts_have_their_plural() -> None:
    assert [count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
