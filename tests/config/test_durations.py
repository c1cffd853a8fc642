from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.durations import LONGEST, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("35m", 2100), ("12h", 43200), ("7d", 604800), ("1.5s", 1.5), ("3650d", LONGEST)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_a_bare_number_is_refused_with_the_hint_to_add_a_unit() -> None:
    with pytest.raises(ValueError, match='"10" has no unit; write "10s"'):
        parse_duration("10")


@pytest.mark.parametrize(
    "text", ["", "s", "10 s", "10S", "-1s", "1e3s", "1h 30m", "9h" * 9, "٣s", ".5s", "10s\n", "10min"]
)
def test_what_is_not_a_number_and_a_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "one"), [("1h30m", "90m"), ("1d12h", "36h"), ("1m1s500ms", "61500ms"), ("1.5h30m", "2h"), ("1s1s", "2s")]
)
def test_several_units_are_refused_with_the_duration_in_one(text: str, one: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}" has several units; write it with one, "{one}"'):
        parse_duration(text)


def test_zero_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match="leave the key out for its default"):
        parse_duration("0s")


@pytest.mark.parametrize("text", ["0s", "0ms", "0.0h"])
def test_zero_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be longer than zero"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3651d", "9" * 400 + "d"])
def test_more_than_ten_years_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most ten years"):
        parse_duration(text)


@given(text=st.text() | st.from_regex(r"([0-9.]{0,6}(ms|s|m|h|d)?){0,9}"))
def test_any_text_is_a_positive_duration_or_a_value_error_on_one_line(text: str) -> None:
    complaint, seconds = "", LONGEST
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        complaint = str(error)
    assert 0 < seconds <= LONGEST
    assert complaint.isprintable()
