"""Files and links that somebody put into a certificate directory to do harm: each costs itself and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

from certstore.catalogue import Catalogue, Settings, Snapshot
from tests.support.pki import self_signed


def refreshed(state: Path) -> Snapshot:
    return Catalogue(Settings(state, trust=())).refresh(time.time(), time.monotonic())


def test_a_certificate_of_an_impossible_version_is_a_problem_of_its_file_alone(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    good = self_signed("a.example")
    good.write(certs, "good")
    version = b"\xa0\x03\x02\x01\x02"
    damaged = self_signed("b.example").der
    assert damaged.count(version) == 1
    (certs / "bad.der").write_bytes(damaged.replace(version, b"\xa0\x03\x02\x01\x22"))
    snapshot = refreshed(tmp_path)
    assert set(snapshot.certificates) == {good.fingerprint}
    assert [(one.path, one.reason) for one in snapshot.problems] == [(str(certs / "bad.der"), "malformed")]


def test_a_link_to_what_lies_above_or_to_the_kernels_files_is_not_followed(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    good = self_signed("a.example")
    good.write(certs, "good")
    self_signed("b.example").write(tmp_path, "outside")
    (certs / "root").symlink_to("/")
    (certs / "above").symlink_to("..")
    (certs / "proc").symlink_to("/proc")
    snapshot = refreshed(tmp_path)
    assert set(snapshot.certificates) == {good.fingerprint}
    assert sorted(Path(one.path).name for one in snapshot.problems) == ["above", "proc", "root"]


def test_a_link_to_an_ordinary_directory_elsewhere_is_followed(tmp_path: Path) -> None:
    (tmp_path / "state" / "certs").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    good = self_signed("a.example")
    good.write(elsewhere, "good")
    (tmp_path / "state" / "certs" / "link").symlink_to(elsewhere)
    assert set(refreshed(tmp_path / "state").certificates) == {good.fingerprint}
