from __future__ import annotations

import pytest

from soak.windows import windows
from tests.soak.visits import sample, visit

SAMPLES = [sample(at) for at in range(0, 31, 2)]


def test_connections_fall_into_the_window_in_which_they_began() -> None:
    visits = [visit(began=100.0), visit(began=109.9, ended=130.0), visit(began=110.0)]
    assert [one.served for one in windows(visits, SAMPLES, 100.0, 20.0, 10.0)] == [2, 1]


def test_what_failed_on_purpose_is_told_from_what_went_wrong() -> None:
    visits = [visit(outcome="redirected"), visit(outcome="idle"), visit(error="broken")]
    (one,) = windows(visits, SAMPLES, 10.0, 10.0, 10.0)
    assert (one.served, one.deliberate, one.failed) == (1, 1, 1)


def test_percentiles_are_of_those_that_were_timed() -> None:
    visits = [visit(handshake=number / 1000) for number in range(1, 101)]
    (one,) = windows([*visits, visit()], SAMPLES, 10.0, 10.0, 10.0)
    assert one.handshakes == 100
    assert one.p50 == pytest.approx(0.0505)
    assert one.p99 == pytest.approx(0.099, abs=1e-4)


def test_a_window_without_any_has_none() -> None:
    assert windows([], SAMPLES, 0.0, 10.0, 10.0)[0].p99 is None


def test_what_else_the_machine_did_is_said_in_cpus() -> None:
    assert [one.others for one in windows([], SAMPLES, 0.0, 30.0, 10.0)] == [0.1, 0.1, 0.1]
