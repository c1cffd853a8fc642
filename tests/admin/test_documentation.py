from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from admin import openapi
from admin.cli import app
from admin.collector import REJECT_REASONS, RESULTS, ControlCollector
from admin.description import STANDINGS
from admin.view import STATES
from certstore.ranking import Level
from proxy.errors import HANDSHAKE_FAILURES, Outcome
from proxy.metrics import VERSIONS
from tests.admin.conftest import MakeView

DOCS = Path(__file__).parents[2] / "docs"
METRICS = (DOCS / "metrics.md").read_text()
VALUES = {
    "outcome": [one.value for one in Outcome],
    "version": VERSIONS,
    "resumed": ("yes", "no"),
    "reason": (*HANDSHAKE_FAILURES, *REJECT_REASONS),
    "direction": ("to_backend", "to_client"),
    "level": [str(one.value) for one in Level],
    "result": RESULTS,
    "server": ("built-in",),
}


def _worker_metrics() -> set[str]:
    """The names in the source, since a worker's metrics cannot be made in this process."""
    source = (DOCS.parent / "proxy/metrics.py").read_text()
    return set(re.findall(r'"(snigate_\w+)"', source))


def test_every_metric_is_documented_and_nothing_else(make_view: MakeView) -> None:
    own = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in ControlCollector(make_view()).collect()
    }
    documented = set(re.findall(r"^### `(snigate_\w+)", METRICS, re.MULTILINE))
    assert documented == own | _worker_metrics()


@pytest.mark.parametrize(("label", "value"), [(label, value) for label, values in VALUES.items() for value in values])
def test_every_label_value_is_documented(label: str, value: str) -> None:
    assert f"`{value}`" in METRICS, label


def test_no_documented_reason_is_unknown() -> None:
    for heading, known in {
        "snigate_handshake_failures_total": set(HANDSHAKE_FAILURES),
        "snigate_certificate_files_rejected": set(REJECT_REASONS),
        "snigate_connections_total": {one.value for one in Outcome},
    }.items():
        section = METRICS.split(f"### `{heading}")[1].split("\n### ")[0]
        assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == known


def test_every_endpoint_state_and_standing_is_documented() -> None:
    api = (DOCS / "api.md").read_text()
    for path in ("/metrics", "/healthz", "/readyz", "/api/v1/openapi.json", *openapi.PATHS):
        assert f"`{path}" in api
    for word in (*STATES, *STANDINGS.values()):
        assert f"`{word}`" in api


def test_every_command_and_option_is_documented() -> None:
    commands = (DOCS / "commands.md").read_text()
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]  # a group, as app has commands
        below = getattr(command, "commands", None)
        for full, one in (
            {f"{name} {key}": value for key, value in below.items()}.items() if below else [(name, command)]
        ):
            assert f"### `snigate {full}" in commands
            for option in (text for parameter in one.params for text in parameter.opts if text.startswith("--")):
                assert f"`{option}`" in commands, (full, option)
