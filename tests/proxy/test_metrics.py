"""What a worker leaves behind, and a disk that refuses to be written, stop nobody else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from proxy.metrics import Metrics, remove_gauges


def test_what_a_worker_was_like_goes_when_it_has_ended_whatever_else_lies_there(tmp_path: Path) -> None:
    counters, gauges = tmp_path / "counter_1.db", [tmp_path / f"gauge_live{kind}_1.db" for kind in ("max", "sum")]
    others = tmp_path / "gauge_livesum_2.db"
    for file in (counters, *gauges, others):
        file.touch()
    in_the_way = tmp_path / "gauge_liveall_1.db"
    in_the_way.mkdir()
    remove_gauges(tmp_path, 1)
    assert set(tmp_path.iterdir()) == {counters, others, in_the_way}


def test_files_that_cannot_be_removed_or_looked_for_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has become read-only, or fails."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    file = tmp_path / "gauge_livesum_1.db"
    file.touch()
    with monkeypatch.context() as context:
        context.setattr(Path, "unlink", refuse)
        remove_gauges(tmp_path, 1)
    assert file.exists()
    monkeypatch.setattr(Path, "glob", refuse)
    remove_gauges(tmp_path, 1)


def test_a_worker_that_leaves_goes_on_where_its_word_on_backends_cannot_be_removed(tmp_path: Path) -> None:
    pid = os.fork()  # since a worker's metrics are made once in a process
    if pid == 0:
        status = 1
        try:
            metrics = Metrics(1, tmp_path)
            metrics.backend("app", ["127.0.0.1:80"])
            (tmp_path / "gauge_livemin_1.db").mkdir()
            metrics.retire()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
