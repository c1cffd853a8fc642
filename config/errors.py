"""What is wrong with a configuration: every problem found, each with its file and key path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct (or, from `config.warnings`, to think about).

    `key` is the key path: "server.drain", "backends.imap.servers[0]", "listeners[web].routes[0].hosts". A listener is
    called by its name, or by its place (from 0) where it has no usable one. For a TOML syntax error it is the position,
    "line 3, column 5"; for a file that cannot be read it is empty.
    """

    key: str
    message: str
    file: Path

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.file), self.key, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds everything found; str() prints one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
