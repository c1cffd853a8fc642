from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from soak import verdict
from soak.record import Count, Event, Finding, Sample
from tests.soak.visits import sample, visit, window

STEADY = [sample(at) for at in range(0, 400, 10)]


def grown(by: float, *, since: float) -> list[Sample]:
    """Samples of 400 s, in which each worker has so many MB more from a moment on."""
    return [sample(at, 20.0 + (by if at >= since else 0.0)) for at in range(0, 400, 10)]


def bad(findings: Sequence[Finding]) -> list[str]:
    return [one.name for one in findings if not one.good]


def test_one_error_that_nobody_made_is_too_many_and_is_named() -> None:
    broken = visit(error="ConnectionResetError(104)")
    assert verdict.no_errors([visit()], []).good
    found = verdict.no_errors([visit(), broken], [broken])
    assert not found.good
    assert found.found == "1 of 2 connections: request on web: ConnectionResetError(104)"


def test_what_a_kill_explains_is_no_fault_and_is_said() -> None:
    found = verdict.no_errors([visit(), visit(error="ConnectionResetError(104)")], [])
    assert found.good
    assert found.found == "0 of 2 connections (1 were cut with a killed worker)"


def test_metrics_that_differ_from_what_clients_saw_are_named() -> None:
    good = Count("a_total", 3, 3, 3)
    assert verdict.counted_alike([good]).good
    found = verdict.counted_alike([good, Count("b_total", 4, 1, 2)])
    assert not found.good
    assert "b_total: 4, not 1 to 2" in found.found


def test_without_any_metrics_nothing_is_shown() -> None:
    assert not verdict.counted_alike([]).good


def test_a_stale_certificate_is_a_fault() -> None:
    assert verdict.no_stale([], 5).good
    assert not verdict.no_stale([visit(name="www", fingerprint="ab")], 5).good


def test_every_new_certificate_must_have_been_shown_but_the_very_last() -> None:
    swaps = [Event(10.0, "swap", "a", "a1"), Event(20.0, "swap", "a", "a2"), Event(30.0, "swap", "a", "a3")]
    seen = [visit(fingerprint="a1"), visit(fingerprint="a2")]
    assert verdict.swaps_seen(swaps, seen, 35.0, 8.0).good
    assert not verdict.swaps_seen(swaps, seen, 40.0, 8.0).good
    assert not verdict.swaps_seen([], seen, 40.0, 8.0).good


def test_a_certificate_that_is_replaced_at_once_need_not_have_been_shown() -> None:
    swaps = [Event(10.0, "swap", "a", "a1"), Event(11.0, "swap", "b", "b1"), Event(12.0, "swap", "a", "a2")]
    seen = [visit(fingerprint="a2"), visit(fingerprint="b1")]
    assert verdict.swaps_seen(swaps, seen, 40.0, 8.0).good
    assert not verdict.swaps_seen(swaps, seen, 40.0, 2.0).good


def test_reloads_must_have_come_out_as_they_had_to() -> None:
    events = [Event(1.0, "reload"), Event(2.0, "refusal"), Event(3.0, "refusal"), Event(4.0, "swap")]
    assert verdict.reloads(events, 1, 2).good
    assert not verdict.reloads(events, 2, 1).good


def test_a_worker_that_died_by_itself_is_a_fault() -> None:
    assert verdict.restarts([Event(1.0, "kill")], 1).good
    assert not verdict.restarts([], 1).good


def test_errors_in_the_log_are_faults_but_for_refused_configurations_and_what_was_done() -> None:
    assert verdict.quiet_log("12 info worker 0: all is well\n12 error supervisor: reload refused: why").good
    assert not verdict.quiet_log("12 error worker 0: out of luck").good
    assert not verdict.quiet_log("Traceback (most recent call last):").good


def test_steady_memory_is_flat() -> None:
    assert bad(verdict.memory(STEADY, 400)) == []


def test_what_grows_while_warming_up_is_not_held_against_it() -> None:
    assert bad(verdict.memory(grown(30.0, since=90), 400)) == []


@pytest.mark.parametrize(("by", "is_flat"), [(1.4, True), (10.0, False)])
def test_memory_that_has_grown_by_the_last_quarter_is_not_flat(by: float, is_flat: bool) -> None:
    found = verdict.memory(grown(by, since=280), 400)
    assert (bad(found) == []) is is_flat
    assert is_flat or bad(found) == ["memory, all processes", "memory, worker 0", "memory, worker 1"]


def test_retired_workers_count_in_the_sum_alone() -> None:
    samples = [sample(at, retired=40.0 if at >= 300 else 0.0) for at in range(0, 400, 10)]
    assert bad(verdict.memory(samples, 400)) == ["memory, all processes"]


def test_workers_must_not_grow_over_a_generations_life() -> None:
    ages = [(at, at // 200 + 1, at % 200) for at in range(0, 400, 10)]
    assert verdict.ageing([sample(at, generation=generation) for at, generation, _ in ages]).good
    growing = [sample(at, 20 + age / 20, generation=generation) for at, generation, age in ages]
    assert not verdict.ageing(growing).good


def test_descriptors_must_be_back_in_each_process() -> None:
    first, last = sample(0), sample(400)
    assert verdict.descriptors(first, last).good
    last.descriptors["keeper"] += 1
    found = verdict.descriptors(first, last)
    assert not found.good
    assert "keeper: 30, now 31" in found.found


def test_a_worker_of_a_replaced_generation_must_not_be_left() -> None:
    assert not verdict.descriptors(sample(0), sample(400, retired=20.0)).good


def test_no_connection_may_be_left() -> None:
    assert verdict.connections(sample(400)).good
    assert not verdict.connections(msgspec.structs.replace(sample(400), active=1)).good


def working(share: float, pace: float) -> list[Sample]:
    """Samples of 400 s, in whose second half snigate takes this share of a core, and the machine has this pace."""
    made = [sample(at) for at in range(0, 400, 10)]
    for one in made[20:]:
        one.cpu, one.pace = 20.0 + share * (one.at - 200), pace
    return made


@pytest.mark.parametrize(
    ("share", "pace", "is_good"), [(0.1, 2.0, True), (0.12, 2.0, False), (0.12, 2.4, True), (0.1, 1.6, False)]
)
def test_snigate_may_take_more_cpu_only_where_the_machine_has_become_slower(
    share: float, pace: float, is_good: bool
) -> None:
    found = verdict.effort(working(share, pace), 400)
    assert found.good is is_good
    assert found.is_timing


def test_a_soak_that_is_too_short_says_nothing_of_cpu() -> None:
    assert not verdict.effort(working(0.1, 2.0)[:20], 400).good


def test_handshakes_may_take_a_tenth_longer_in_the_end() -> None:
    for last, is_good in ((0.0105, True), (0.0115, False)):
        windows = [window(number * 10.0, 0.01 if number < 30 else last) for number in range(40)]
        found = verdict.drift(windows)
        assert found.good is is_good
        assert found.is_timing


def test_a_hiccup_is_no_drift() -> None:
    windows = [window(number * 10.0, 0.5 if number in (31, 32) else 0.01) for number in range(40)]
    assert verdict.drift(windows).good


def test_windows_in_which_the_machine_did_other_things_say_nothing() -> None:
    busy = [window(number * 10.0, 0.05 if number >= 34 else 0.01, others=float(number >= 34)) for number in range(40)]
    assert not verdict.drift(busy).good, "four are too few"
    busy = [window(number * 10.0, 0.05 if number >= 36 else 0.01, others=float(number >= 36)) for number in range(40)]
    assert verdict.drift(busy).good


def test_a_soak_without_handshakes_in_its_last_quarter_says_nothing_of_drift() -> None:
    assert not verdict.drift([window(number * 10.0, None if number > 29 else 0.01) for number in range(40)]).good
