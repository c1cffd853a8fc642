"""Helpers for configurations written to a temporary directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.errors import ConfigError, Problem
from config.load import load
from config.model import Config

LISTENER = """
[[listeners]]
name = "web"
bind = [":443"]
backend = "127.0.0.1:8080"
"""

Write = Callable[..., Path]
Problems = Callable[..., tuple[Problem, ...]]
Load = Callable[..., Config]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files (name=text, "/" allowed) and snigate.toml, whose path is returned."""

    def write_files(main: str, **others: str) -> Path:
        for name, text in {"snigate.toml": main, **others}.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path / "snigate.toml"

    return write_files


@pytest.fixture
def loaded(write: Write) -> Load:
    """The configuration of the given texts."""
    return lambda main, **others: load(write(main, **others))


@pytest.fixture
def problems(write: Write) -> Problems:
    """The problems of the given texts, of which there must be some."""

    def problems_of(main: str, **others: str) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as caught:
            load(write(main, **others))
        assert caught.value.problems
        return caught.value.problems

    return problems_of
