from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.charts import charts, foot
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
        "1000 us .. 1400 us",
        "0.58",
        "1200 /s",
    ]


def test_a_peer_that_could_not_has_a_dash_and_a_remark() -> None:
    rows = [line for line in printed().splitlines() if "nginx" in line]
    assert rows[1].strip("│").split("│")[1].strip() == "-"
    assert "hybrid, nginx: it has no X25519MLKEM768" in remarks(results())


def test_who_was_left_out_is_said_with_the_reason() -> None:
    assert "hitch is left out: hitch is not installed" in remarks(results())


def test_charts_gather_cases_of_one_kind_and_leave_out_who_has_no_figure() -> None:
    handshakes, idle = charts(results())
    assert (handshakes.name, idle.name) == ("handshakes-cpu-us", "idle-kb-per-connection")
    assert {case: list(bars) for case, bars in handshakes.bars.items()} == {
        "full handshake": ["snigate", "nginx"],
        "hybrid handshake": ["snigate"],
    }
    assert handshakes.title == "server CPU, us (shorter is better)"


def test_charts_say_date_commit_and_versions() -> None:
    assert foot(results()).startswith("2026-01-02, commit abc1234, median and spread of 3 rounds; snigate 0.1.0")


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1234 us"), (32.46, "32.5 us"), (0.0251, "0.0251 us")])
def test_values_are_shown_to_three_digits(value: float, text: str) -> None:
    assert shown("cpu_us", value) == text


def test_percentiles_lie_among_the_values() -> None:
    assert percentile([float(value) for value in range(101)], 99) == 99.0
    assert latencies([0.25]) == {"p50_ms": 250.0, "p99_ms": 250.0}
