"""docs/configuration.md is held to the code: its keys, defaults, examples and error messages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigError
from config.load import load
from config.model import (
    AdminConfig,
    BackendConfig,
    CertificatesConfig,
    Config,
    ListenerConfig,
    LogConfig,
    MetricsConfig,
    RouteConfig,
    ServerConfig,
    Table,
    TlsConfig,
)

from .conftest import LISTENER, Load, Write

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
RIGHT, _, WRONG = TEXT.partition("\n## When something is wrong\n")
EXAMPLES = re.findall(r"```toml\n(.*?)```", RIGHT, re.DOTALL)
FAILURES = re.findall(r"```toml\n([^`]*)```\n\n```text\n([^`]*)\n```", WRONG)
TABLES: dict[str, type[Table]] = {
    "[certificates]": CertificatesConfig,
    "[tls]": TlsConfig,
    "[server]": ServerConfig,
    "[admin]": AdminConfig,
    "[metrics]": MetricsConfig,
    "[log]": LogConfig,
    "[backends.NAME]": BackendConfig,
    "[[listeners]]": ListenerConfig,
    "[[listeners.routes]]": RouteConfig,
}


def rows(header: str) -> dict[str, str]:
    """The default's cell for each key of a documented table."""
    section = RIGHT.partition(f"\n### `{header}`\n")[2].partition("\n#")[0]
    return dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section, re.MULTILINE))


@pytest.mark.parametrize(("header", "model"), TABLES.items(), ids=TABLES)
def test_every_key_is_documented_and_every_documented_key_exists(header: str, model: type[Table]) -> None:
    keys = [key for key in model.model_fields if (model, key) != (BackendConfig, "name")]
    assert list(rows(header)) == keys


def test_every_table_of_the_configuration_is_documented() -> None:
    tables = {header.strip("[]").partition(".")[0] for header in TABLES}
    assert tables == Config.model_fields.keys() - {"source"}


@pytest.mark.parametrize(("header", "model"), TABLES.items(), ids=TABLES)
def test_every_documented_default_is_what_an_absent_key_means(header: str, model: type[Table]) -> None:
    required: dict[str, Any] = {key: field.examples[0] for key, field in model.model_fields.items() if field.examples}
    if model is BackendConfig:
        required["name"] = "b"
    absent = model(**required).model_dump()
    for key, cell in rows(header).items():
        if cell.startswith("required"):
            assert key in required
        elif code := re.match(r"`([^`]*)`", cell):
            said = tomllib.loads(f"x = {code[1]}")["x"]
            assert model(**{**required, key: said}).model_dump()[key] == absent[key], key
        else:
            assert absent[key] is None, key


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_loads(loaded: Load, example: str) -> None:
    text = example if "[[listeners]]" in example else example + LISTENER
    assert loaded(text).listeners


def test_the_complete_example_comes_first_and_has_web_and_mail(loaded: Load) -> None:
    config = loaded(EXAMPLES[0])
    assert {listener.protocol for listener in config.listeners} == {"http", "imap", "smtp"}
    assert [listener.routes != () for listener in config.listeners] == [True, False, False]


def test_the_built_in_defaults_are_documented_as_they_are(loaded: Load, tmp_path: Path) -> None:
    documented = RIGHT.partition("\n## Built-in defaults\n")[2]
    example = re.findall(r"```toml\n(.*?)```", documented, re.DOTALL)[0]
    assert loaded(example).model_dump(exclude={"source"}) == Config.defaults(tmp_path).model_dump(exclude={"source"})


@pytest.mark.parametrize(("text", "output"), FAILURES, ids=range(len(FAILURES)))
def test_every_documented_failure_prints_what_the_documentation_shows(
    write: Write, tmp_path: Path, text: str, output: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(text))
    assert str(caught.value).replace(str(tmp_path), "/etc/snigate") == output


def test_there_are_failures_in_the_documentation() -> None:
    assert len(FAILURES) == WRONG.count("```toml") > 0
