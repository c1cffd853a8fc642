"""Durations as texts with a unit: "500ms", "10s", "35m", "12h", "7d"."""

from __future__ import annotations

import re

from config.words import quoted

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SEVERAL = re.compile(rf"(?:{_DURATION.pattern}){{2,8}}")
_EXAMPLES = '"500ms", "10s", "35m", "12h" or "7d"'
LONGEST = 3650 * _UNITS["d"]


def parse_duration(text: str) -> float:
    """Seconds of a duration text; raises ValueError unless it is positive, at most ten years, and has a unit."""
    match = _DURATION.fullmatch(text)
    if match is None:
        if re.fullmatch(r"[0-9]+", text):
            raise ValueError(f'{quoted(text)} has no unit; write "{text[:20]}s" for seconds, or {_EXAMPLES}')
        if _SEVERAL.fullmatch(text):
            whole = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
            if 0 < whole <= LONGEST:
                raise ValueError(f'{quoted(text)} has several units; write it with one, "{_with_one_unit(whole)}"')
        raise ValueError(f"{quoted(text)} is not a duration; write a number and its unit, such as {_EXAMPLES}")
    return checked_seconds(float(match[1]) * _UNITS[match[2]], text)


def checked_seconds(seconds: float, text: str) -> float:
    """The seconds as they are; raises ValueError, naming `text`, when they are not positive or above ten years."""
    if not seconds > 0:
        raise ValueError(
            f"{quoted(text)} is no time at all; it must be longer than zero (leave the key out for its default)"
        )
    if seconds > LONGEST:
        raise ValueError(f'{quoted(text)} is too long; a duration is at most ten years ("3650d")')
    return seconds


def _with_one_unit(seconds: float) -> str:
    """The duration in the largest unit that leaves no fraction, else in milliseconds."""
    for unit, size in reversed(_UNITS.items()):
        if seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:.12g}ms"
