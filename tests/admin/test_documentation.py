from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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


# Lines that are put together from parts, and what comes of them.
COMPOSED = {
    "…: …": {"reload refused, everything stays as it is: …", "not renewed: …"},
    "… …": {
        "… cannot be reached: …; another server is used while there is one",
        "… cannot be reached: …; its clients are turned away until it can",
        "… fails its check: …; another is used while there is one",
        "… fails its check: …; it is used all the same, being the only one",
    },
    "… … … of them with …; the oldest of whoever has most are ended": {
        "… handshakes are unfinished, as many as may be (server.max_handshakes), … of them with …; "
        "the oldest of whoever has most are ended",
        "… mail dialogues have not come to TLS, as many as may be (server.max_handshakes), … of them with …; "
        "the oldest of whoever has most are ended",
    },
    "… …; it is started again…": {
        "… was killed by signal …; it is started again…",
        "… ended with status …; it is started again…",
    },
}
LEVELS = {"exception": "error"}


def _logged() -> Iterator[tuple[str, str]]:
    """Every line in the sources that is no debug line, with its level."""
    for package in ("admin", "certstore", "config", "proxy"):
        for path in (DOCS.parent / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(ast.Attribute(ast.Name("log"), level), [ast.Constant(str(text)), *_]):
                        if level != "debug":
                            yield re.sub(r"%[a-z]", "…", text), LEVELS.get(level, level)


def test_every_line_of_the_log_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `(.+?)` \| (\w+) \|", (DOCS / "log.md").read_text(), re.MULTILINE)
    wanted = {(line, level) for text, level in _logged() for line in COMPOSED.get(text, {text})}
    assert ("stopped", "info") in wanted
    assert set(documented) == wanted


def test_the_log_s_lines_that_are_put_together_are_what_is_put_together() -> None:
    source = "".join(path.read_text() for path in (DOCS.parent / "proxy").rglob("*.py"))
    for line in set().union(*COMPOSED.values()):
        for part in line.split("…"):
            assert all(piece.strip(" :;") in source for piece in part.split("; ")), part


def _anchors(text: str) -> set[str]:
    """Those of a page's headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted([*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]), ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target.read_text()), link
