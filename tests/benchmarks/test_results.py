from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.charts import charts, foot, overview
from benchmarks.figures import shown
from benchmarks.measure import latencies, percentile
from benchmarks.report import remarks, tables
from benchmarks.results import load, ratio, save, summary
from tests.benchmarks.figures import results


def printed() -> str:
    console = Console(file=io.StringIO(), width=140)
    for table in tables(results()):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_summary_is_the_median_with_least_and_most() -> None:
    assert summary(results().cases[0].peers["snigate"], "cpu_us") == (700.0, 600.0, 900.0)


def test_there_is_no_summary_of_what_was_not_measured() -> None:
    assert summary(results().cases[1].peers["nginx"], "cpu_us") is None


def test_the_ratio_is_snigates_median_divided_by_the_peers() -> None:
    ecdsa, hybrid, _ = results().cases
    assert ratio(ecdsa, "nginx") == pytest.approx(700 / 1200)
    assert ratio(hybrid, "nginx") is None


def test_results_come_back_from_json_as_they_were(tmp_path: Path) -> None:
    save(results(), tmp_path / "results.json")
    assert load(tmp_path / "results.json") == results()


def test_json_holds_every_sample_by_case_and_peer(tmp_path: Path) -> None:
    save(results(), tmp_path / "results.json")
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["versions"] == {"snigate": "0.1.0", "nginx": "1.22.1"}
    assert stored["cases"][0]["peers"]["nginx"] == {
        "samples": [{"cpu_us": 1000.0, "rate": 1200.0}, {"cpu_us": 1400.0}],
        "note": None,
    }


def test_the_table_of_a_case_shows_median_spread_ratio_and_what_else_was_measured() -> None:
    row = next(line for line in printed().splitlines() if "nginx" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "nginx",
        "1200 us",
        "1000 .. 1400",
        "0.58",
        "1200 /s",
    ]


def test_a_peer_that_could_not_has_a_dash_and_a_remark() -> None:
    rows = [line for line in printed().splitlines() if "nginx" in line]
    assert rows[1].strip("│").split("│")[1].strip() == "-"
    assert "hybrid, nginx: it has no X25519MLKEM768" in remarks(results())


def test_who_was_left_out_is_said_with_the_reason() -> None:
    assert "hitch is left out: hitch is not installed" in remarks(results())


def test_charts_gather_cases_of_one_kind() -> None:
    handshakes, idle = charts(results())
    assert (handshakes.name, idle.name) == ("handshakes", "idle")
    assert [panel.title for panel in handshakes.panels] == ["full handshake", "hybrid handshake"]
    assert handshakes.panels[0].axis == "server CPU, us (less is better)"


def test_bars_go_from_the_best_to_the_worst_and_then_to_who_could_not() -> None:
    full, hybrid = charts(results())[0].panels
    assert [bar.peer for bar in full.bars] == ["snigate", "nginx"]
    assert hybrid.bars == [("snigate", (800.0, 800.0, 800.0), ""), ("nginx", None, "it has no X25519MLKEM768")]


def test_the_longest_bar_is_the_best_where_more_is_better() -> None:
    found = results()
    found.cases[0].figure = "rate"
    found.cases[0].peers["snigate"].samples = [{"rate": 100.0}]
    assert [bar.peer for bar in charts(found)[0].panels[0].bars] == ["nginx", "snigate"]


def test_the_overview_has_the_ratios_of_cases_that_compare() -> None:
    (only,) = overview(results())
    assert only.title == "full handshake"
    assert only.ratios == pytest.approx({"nginx": 700 / 1200})


def test_the_last_table_has_the_ratios_of_all_cases() -> None:
    row = printed().splitlines()[-2]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["full handshake", "server CPU", "0.58"]


def test_a_table_says_how_many_rounds_there_were() -> None:
    assert "hybrid: hybrid handshake (1 round)" in printed()


def test_charts_say_date_commit_and_versions() -> None:
    assert foot(results()).startswith("2026-01-02, commit abc1234: snigate 0.1.0, nginx 1.22.1\n")


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1234 us"), (32.46, "32.5 us"), (0.0251, "0.0251 us")])
def test_values_are_shown_to_three_digits(value: float, text: str) -> None:
    assert shown("cpu_us", value) == text


def test_percentiles_lie_among_the_values() -> None:
    assert percentile([float(value) for value in range(101)], 99) == 99.0
    assert latencies([0.25]) == {"p50_ms": 250.0, "p99_ms": 250.0}
