"""The Grafana dashboard: what it asks for is there, and Prometheus answers every panel when it has a snigate."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import ROOT
from tests.support.pki import self_signed
from tests.support.ports import free_port
from tests.support.servers import needs, running
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import shown

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/snigate.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
DOCUMENTED = {
    name: set(filter(None, labels.split(",")))
    for name, labels in re.findall(
        r"^### `(snigate_\w+)(?:\{(.*)\})?`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
}
OF_HISTOGRAMS = re.compile(r"_bucket$")
LABELS = re.compile(r"\b(\w+)(?:=~|!~|!=|=)\"|by \(([^)]*)\)|label_values\([^)]*, (\w+)\)|\{\{(\w+)\}\}")
ADDED = {"instance", "le"}  # by Prometheus and by histograms

SITE = """
[certificates]
directories = ["{certs}"]
trust = []
[backends.gone]
servers = ["127.0.0.1:GONE"]
[[listeners]]
name = "web"
bind = ["127.0.0.1:{port}"]
protocol = "http"
backend = "welcome"
  [[listeners.routes]]
  hosts = ["gone.example.com"]
  backend = "gone"
"""


def expressions() -> list[str]:
    """All that panels ask for, with something in the place of Grafana's variables."""
    found = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
    return [re.sub(r"\$(instance|listener|backend)\b", ".*", one).replace("$__rate_interval", "30s") for one in found]


def test_every_metric_is_on_it_and_none_that_does_not_exist() -> None:
    asked = {OF_HISTOGRAMS.sub("", name) for one in expressions() for name in re.findall(r"\bsnigate_\w+", one)}
    assert asked == set(DOCUMENTED)


def test_every_label_is_one_of_the_metrics_beside_it() -> None:
    texts = [
        f"{target['expr']} {target['legendFormat']}" for panel in PANELS for target in panel.get("targets", [])
    ] + [one["query"]["query"] for one in VARIABLES.values() if one["type"] == "query"]
    for text in texts:
        asked = {name.strip() for found in LABELS.findall(text) for one in found for name in one.split(",")} - {""}
        metrics = {OF_HISTOGRAMS.sub("", name) for name in re.findall(r"\bsnigate_\w+", text)}
        assert asked <= ADDED.union(*(DOCUMENTED[name] for name in metrics)), text


def test_every_value_that_is_asked_for_is_documented() -> None:
    documented = (ROOT / "docs/metrics.md").read_text()
    values = {
        value
        for one in expressions()
        for found in re.findall(r'"([^"]+)"', one)
        for value in found.split("|")
        if value != ".*"
    }
    assert {"served", "to_client", "yes"} <= values
    for value in values:
        assert f"`{value}`" in documented


def test_prometheus_takes_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([needs("promtool"), "check", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout


def test_panels_are_told_apart_and_lie_beside_each_other() -> None:
    assert [key for key, count in Counter(panel["id"] for panel in PANELS).items() if count > 1] == []
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in PANELS) == 24


def test_the_data_source_is_chosen_by_a_variable_everywhere() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == ("datasource", "prometheus")
    asking = [panel for panel in PANELS if panel["type"] != "row"]
    asked = [target for panel in asking for target in panel["targets"]]
    queries = [one for one in VARIABLES.values() if one["type"] == "query"]
    assert all(one["datasource"] == chosen for one in (*asking, *asked, *queries))
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(asking)))
    assert used == {*VARIABLES, "__rate_interval"}


@pytest.fixture
def site(tmp_path: Path) -> Snigate:
    """A snigate with a certificate, a file it cannot use, and a backend that is not there."""
    made = Snigate(tmp_path, SITE.replace("GONE", str(free_port())), workers=1)
    self_signed("www.example.com").write(made.certs, "www")
    (made.certs / "broken.pem").write_text("broken\n")
    return made


def test_every_panel_shows_something_of_a_snigate_that_is_scraped(site: Snigate, tmp_path: Path) -> None:
    port = free_port()
    scrape = {"job_name": "snigate", "static_configs": [{"targets": [f"127.0.0.1:{site.admin}"]}]}
    configuration = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [needs("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")

    def answers(expression: str) -> bool:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as answer:
            return bool(json.load(answer)["data"]["result"])

    left = expressions()
    with site, running(command, port, tmp_path / "prometheus.log"):

        def nothing_is_left() -> bool:
            shown(site.port, "www.example.com")
            with contextlib.suppress(OSError):
                shown(site.port, "gone.example.com")
            with socket.create_connection(("127.0.0.1", site.port)) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                plain.recv(100)
            left[:] = [one for one in left if not answers(one)]
            return left == []

        try:
            wait_for(nothing_is_left, "every panel shows something")
        except AssertionError:
            assert left == []
            raise
