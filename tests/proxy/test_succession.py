"""One generation after another, with children of the test's own (see tests.support.supervised)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.snigate import wait_for
from tests.support.supervising import Supervised, alive


def reloads(one: Supervised) -> dict[str, int]:
    """How reloads ended so far, as control was told."""
    found: dict[str, int] = one.told()[-1]["reloads"]
    return found


def test_a_reload_makes_new_workers_and_the_old_ones_end(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        before = [one.pid("worker0"), one.pid("worker1")]
        one.signal(signal.SIGHUP)
        one.serves(2, 2, 3)
        assert not any(map(alive, before))
        assert "configuration read again: True" in one.log
        assert reloads(one) == {"applied": 1, "rejected": 0}
        assert one.told()[-1]["generation"] == 2
        assert one.told()[-1]["worker_restarts"] == 0


def test_there_is_never_a_moment_without_a_worker_that_accepts(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        started = len(one.told())
        for generation in range(2, 8):
            one.signal(signal.SIGHUP)
            wait_for(lambda expected=generation: one.told()[-1]["generation"] == expected, "the next one")
        for message in one.told()[started:]:
            assert sum(process["ready"] for process in message["processes"] if process["role"] == "worker") >= 2


def test_keeper_and_control_stay_where_their_plans_are_the_same(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        before = one.pid("keeper0"), one.pid("control0")
        one.signal(signal.SIGHUP)
        one.serves(2, 2, 3)
        assert (one.pid("keeper0"), one.pid("control0")) == before
        assert all(map(alive, before))


@pytest.mark.parametrize("role", ["keeper", "control"])
def test_another_keeper_or_control_follows_and_the_old_one_ends(tmp_path: Path, role: str) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        old = one.pid(f"{role}0")
        one.order(**{role: "b"})
        one.signal(signal.SIGHUP)
        one.serves(2, 2, 3)
        wait_for(lambda: not alive(old), "the old one has ended")
        wait_for(lambda: (role, 0, 2, "ready") in one.processes(), "the new one is ready")
        assert one.pid(f"{role}0") != old


def test_numbers_are_those_that_no_living_worker_has(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="busy") as one:
        one.serves(1, 0, 1)
        one.signal(signal.SIGHUP)
        expected = [(0, 1, "draining"), (1, 1, "draining"), (2, 2, "ready"), (3, 2, "ready")]
        wait_for(lambda: one.workers() == expected, "two generations live")
        os.kill(one.pid("worker1"), signal.SIGKILL)
        wait_for(lambda: (1, 1, "draining") not in one.workers(), "one has ended")
        os.kill(one.pid("worker2"), signal.SIGKILL)
        expected = [(0, 1, "draining"), (1, 2, "ready"), (3, 2, "ready")]
        wait_for(lambda: one.workers() == expected, "its number is used again, in the generation of the one that died")
        assert (tmp_path / "ended.log").read_text().split() == ["1", "2"]
        (tmp_path / "release").touch()
        one.serves(2, 1, 3)


def test_a_worker_of_a_replaced_generation_is_not_started_again(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="busy") as one:
        one.serves(1, 0, 1)
        one.signal(signal.SIGHUP)
        wait_for(lambda: (0, 1, "draining") in one.workers(), "the old generation drains")
        for name in ("worker0", "worker1"):
            os.kill(one.pid(name), signal.SIGKILL)
        one.serves(2, 2, 3)
        assert "is started again" not in one.log


def test_a_worker_of_a_replaced_generation_is_killed_after_its_time(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="stubborn") as one:
        one.serves(1, 0, 1)
        one.order(retire=0.1)
        one.signal(signal.SIGHUP)
        one.serves(2, 2, 3)


def test_a_refused_plan_changes_nothing_and_every_reason_is_logged(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        one.order(refused=["this is wrong", "and that"])
        one.ask("a")
        answer = one.answer("a")
        assert answer["problems"] == ["this is wrong", "and that"]
        assert answer["generation"] == 1
        for problem in answer["problems"]:
            assert f"reload refused, everything stays as it is: {problem}" in one.log
        wait_for(lambda: reloads(one) == {"applied": 0, "rejected": 1}, "it is counted")
        one.serves(1, 0, 1)


def test_a_worker_that_dies_before_it_is_prepared_ends_the_attempt(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        before = one.processes()
        one.order(worker="dying", keeper="b", workers=3)
        one.ask("a")
        (problem,) = one.answer("a")["problems"]
        assert "ended with status 0 before the new generation accepted connections" in problem
        wait_for(lambda: one.processes() == before, "everything is as before")
        assert reloads(one) == {"applied": 0, "rejected": 1}
        one.order()
        one.ask("b")
        assert one.answer("b")["problems"] == []


@pytest.mark.parametrize("kind", ["deaf", "shy"])
def test_workers_that_do_not_accept_in_time_end_the_attempt(tmp_path: Path, kind: str) -> None:
    with Supervised(tmp_path, patience=0.5) as one:
        one.serves(1, 0, 1)
        one.order(worker=kind)
        one.ask("a")
        (problem,) = one.answer("a")["problems"]
        assert "did not all accept within 0.5 s" in problem
        one.serves(1, 0, 1)


def test_what_is_asked_for_during_a_roll_is_done_after_it_and_at_once(tmp_path: Path) -> None:
    with Supervised(tmp_path, patience=2) as one:
        one.serves(1, 0, 1)
        one.order(worker="deaf")
        one.ask("first")
        wait_for(lambda: "configuration read again" in one.log, "it has begun")
        one.order()
        for name in ("second", "third"):
            one.ask(name)
        for _ in range(3):
            one.signal(signal.SIGHUP)
        assert one.answer("first")["problems"] != []
        for name in ("second", "third"):
            assert (one.answer(name)["generation"], one.answer(name)["problems"]) == (3, [])
        assert one.log.count("configuration read again") == 2
        assert reloads(one) == {"applied": 1, "rejected": 1}


def test_control_that_is_replaced_still_gets_the_answer(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        one.order(control="b")
        one.ask("a")
        assert one.answer("a")["problems"] == []
        wait_for(lambda: ("control", 0, 2, "ready") in one.processes(), "the next one is told of")


def test_after_its_time_a_generation_is_renewed_without_reading_the_configuration(tmp_path: Path) -> None:
    with Supervised(tmp_path, renewal=0.5) as one:
        wait_for(lambda: one.told() and one.told()[-1]["generation"] > 2, "two renewals")
        assert "configuration read again: False" in one.log
        assert "configuration read again: True" not in one.log
        assert reloads(one) == {"applied": 0, "rejected": 0}


def test_a_watched_file_that_changes_makes_a_generation(tmp_path: Path) -> None:
    watched = tmp_path / "ca.pem"
    watched.write_text("one")
    with Supervised(tmp_path, watched=[str(watched)]) as one:
        one.serves(1, 0, 1)
        (tmp_path / "new").write_text("two")
        (tmp_path / "new").rename(watched)
        one.serves(2, 2, 3)
        assert f"{watched} changed" in one.log
        assert reloads(one) == {"applied": 0, "rejected": 0}


def test_a_watched_file_that_cannot_be_used_is_said_once_and_tried_again_when_it_changes(tmp_path: Path) -> None:
    watched, other = tmp_path / "ca.pem", tmp_path / "crl.pem"
    watched.write_text("one")
    other.write_text("one")
    files = [str(watched), str(other)]
    with Supervised(tmp_path, watched=files) as one:
        one.serves(1, 0, 1)
        one.order(watched=files, refused=["no CA"])
        watched.write_text("broken")
        wait_for(lambda: "not renewed: no CA" in one.log, "it is said")
        one.order(watched=files)
        one.signal(signal.SIGHUP)  # the file itself has not changed since
        one.serves(2, 2, 3)
        assert one.log.count("no CA") == 1
        other.write_text("two!")
        one.serves(3, 0, 1)


def test_a_killed_worker_is_replaced_in_the_generation_it_was_of(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.signal(signal.SIGHUP)
        one.serves(2, 2, 3)
        os.kill(one.pid("worker2"), signal.SIGKILL)
        one.serves(2, 0, 3)
        assert one.told()[-1]["worker_restarts"] == 1


def test_fewer_and_more_workers(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        one.serves(1, 0, 1)
        first = json.loads((tmp_path / "listening").read_text())
        one.order(workers=3)
        one.signal(signal.SIGHUP)
        one.serves(2, 2, 3, 4)
        more = json.loads((tmp_path / "listening").read_text())
        assert more[:2] == first
        one.order(workers=1)
        one.signal(signal.SIGHUP)
        one.serves(3, 0)
        assert set(more) & one.sockets("worker0") == {first[0]}


@pytest.mark.parametrize("kind", ["deaf", "shy"])
def test_a_stop_in_the_middle_ends_the_new_generation_too(tmp_path: Path, kind: str) -> None:
    with Supervised(tmp_path, drain=5) as one:
        one.serves(1, 0, 1)
        one.order(worker=kind, keeper="b")
        one.ask("a")
        wait_for(lambda: one.pid("worker3"), "it is being made")
        one.signal(signal.SIGTERM)
        assert one.process.wait(10) == 0
        assert one.answer("a")["problems"] == ["snigate was told to stop"]
        assert not any(map(alive, one.pids()))


def test_a_stop_shortens_the_time_of_a_replaced_generation(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="busy", drain=0.2) as one:
        one.serves(1, 0, 1)
        one.signal(signal.SIGHUP)
        wait_for(lambda: (0, 1, "draining") in one.workers(), "the old generation drains")
        one.signal(signal.SIGTERM)
        assert one.process.wait(10) == 0


def test_a_stop_during_the_handing_over_answers_and_ends(tmp_path: Path) -> None:
    with Supervised(tmp_path) as one:
        for _ in range(5):
            one.signal(signal.SIGHUP)
        one.signal(signal.SIGTERM)
        assert one.process.wait(10) == 0


def test_reloads_are_not_taken_any_more_while_stopping(tmp_path: Path) -> None:
    with Supervised(tmp_path, worker="busy", drain=30) as one:
        one.serves(1, 0, 1)
        one.signal(signal.SIGTERM)
        wait_for(lambda: one.told()[-1]["draining"], "it stops")
        one.ask("a")
        assert one.answer("a")["problems"] == ["snigate was told to stop"]
        (tmp_path / "release").touch()
        assert one.process.wait(10) == 0
