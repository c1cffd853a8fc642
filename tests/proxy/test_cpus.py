from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.cpus import usable_cpus


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def count(tmp_path: Path, quotas: dict[str, str], own: str = "0::/system.slice/snigate.service\n") -> int:
    """usable_cpus() in a control group of the test's own; `quotas` are the contents of cpu.max by group."""
    groups = tmp_path / "cgroup"
    (groups / "system.slice" / "snigate.service").mkdir(parents=True)
    for group, quota in quotas.items():
        (groups / group / "cpu.max").write_text(quota)
    (tmp_path / "own").write_text(own)
    return usable_cpus(groups, tmp_path / "own")


def test_without_a_quota_affinity_decides(tmp_path: Path) -> None:
    assert count(tmp_path, {"system.slice/snigate.service": "max 100000\n"}) == 8
    assert usable_cpus(tmp_path / "nothing", tmp_path / "nothing") == 8


@pytest.mark.parametrize(
    ("quota", "cpus"), [("100000 100000", 1), ("150000 100000", 2), ("200000 100000", 2), ("5000 100000", 1)]
)
def test_a_quota_is_rounded_up_to_whole_cpus(tmp_path: Path, quota: str, cpus: int) -> None:
    assert count(tmp_path, {"system.slice/snigate.service": quota}) == cpus


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    quotas = {"system.slice/snigate.service": "400000 100000", "system.slice": "300000 100000", ".": "max 100000"}
    assert count(tmp_path, quotas) == 3


def test_inside_a_container_the_groups_own_root_counts(tmp_path: Path) -> None:
    assert count(tmp_path, {".": "200000 100000"}, own="0::/\n") == 2


def test_a_quota_larger_than_the_affinity_adds_nothing(tmp_path: Path) -> None:
    assert count(tmp_path, {"system.slice": "6400000 100000"}) == 8


def test_a_file_that_cannot_be_understood_is_passed_over(tmp_path: Path) -> None:
    assert count(tmp_path, {"system.slice/snigate.service": "", "system.slice": "300000 100000"}) == 3
