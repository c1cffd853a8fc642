"""How values and choices are put into words for the operator, always on one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

_SHOWN = 64  # characters of a text, bits of a number: what is longer is not repeated in full


def quoted(text: str) -> str:
    """The text in double quotes, control characters escaped, shortened when long."""
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return json.dumps(shown, ensure_ascii=not shown.isprintable())


def found(value: object) -> str:
    """A TOML value as an administrator would call it: 'the text "10"', "the number 4", "a list", "a table"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return "a huge number"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return f"a date or time ({value})"


def alternatives(allowed: Iterable[str]) -> str:
    """The allowed values, quoted: '"a", "b" or "c"'."""
    texts = [quoted(text) for text in allowed]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def closest(text: str, known: Iterable[str]) -> str | None:
    """The one of `known` that was probably meant; None when none is close."""
    return next(iter(difflib.get_close_matches(text.lower(), list(known), n=1)), None)


def suggestion(text: str, known: Iterable[str], *, quote: str = '"') -> str:
    """'; did you mean "profile"?' when one of `known` is close to `text`, else an empty string."""
    close = closest(text, known)
    return f"; did you mean {quote}{close}{quote}?" if close is not None else ""
