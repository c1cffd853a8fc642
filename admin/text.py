"""Text that others wrote (file names, certificate subjects), made safe to show.

Terminals obey control characters, and bidirectional overrides make a text read as another. Whatever is not printable is
shown as an escape. File names that are not UTF-8 arrive as lone surrogates, which are not printable either.
"""

from __future__ import annotations

from datetime import UTC, datetime


def plain(text: str) -> str:
    """The text on one line, with every character that is not printable as an escape such as "\\x1b"."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def iso(moment: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the second: "2026-01-31T12:00:00Z"."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_or_none(moment: float) -> str | None:
    """Like `iso`; None for 0, which stands for never."""
    return iso(moment) if moment else None


def count(number: int, noun: str) -> str:
    """ "1 certificate", "2 certificates"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
