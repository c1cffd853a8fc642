from __future__ import annotations

import pytest

from soak.accounts import counts, explained, growth, parsed, series_of, stale, unexplained, wrong
from soak.record import Count, Event, Visit
from tests.soak.visits import visit

SERVED = 'snigate_connections_total{listener="web",outcome="served"}'
DONE = 'snigate_handshakes_total{listener="web",resumed="no",version="TLSv1.3"}'


def test_a_request_counts_as_a_handshake_and_as_served() -> None:
    assert series_of(visit(version="TLSv1.3")) == [DONE, SERVED]


def test_a_failed_handshake_counts_with_its_reason() -> None:
    assert series_of(visit(outcome="handshake_failed", reason="timeout")) == [
        'snigate_connections_total{listener="web",outcome="handshake_failed"}',
        'snigate_handshake_failures_total{listener="web",reason="timeout"}',
    ]


def test_a_server_that_is_down_counts_as_an_attempt_that_failed() -> None:
    found = series_of(visit(outcome="backend_unreachable", name="down.soak.test"))
    assert found[-1] == 'snigate_backend_connect_failures_total{backend="down"}'


def test_of_what_went_wrong_the_handshake_alone_is_known() -> None:
    assert series_of(visit(version="TLSv1.3", error="cut")) == [DONE]


def test_what_is_counted_once_too_often_or_too_rarely_is_wrong() -> None:
    visits = [visit(), visit()]
    for counted, is_wrong in ((1, True), (2, False), (3, True)):
        found = counts(visits, [], {SERVED: counted})
        assert found == [Count(SERVED, counted, 2, 2)]
        assert (wrong(found) == found) is is_wrong


def test_what_nobody_did_is_wrong_where_it_is_counted() -> None:
    assert wrong(counts([], [], {SERVED: 1})) == [Count(SERVED, 1, 0, 0)]


def test_what_was_open_at_a_kill_may_be_counted_or_not() -> None:
    visits = [visit(), visit(began=20, ended=21)]
    for counted, is_wrong in ((0, True), (1, False), (2, False), (3, True)):
        assert bool(wrong(counts(visits, [20.5], {SERVED: counted}))) is is_wrong


@pytest.mark.parametrize(("moment", "is_explained"), [(9.9, False), (10.5, True), (11.3, True), (11.6, False)])
def test_a_kill_explains_what_was_open_then_or_had_just_ended(moment: float, is_explained: bool) -> None:
    assert explained(visit(), [moment]) is is_explained


def test_a_kill_explains_no_error_long_after_it() -> None:
    assert explained(visit(began=0, ended=14, error="cut"), [10.0])
    assert not explained(visit(began=0, ended=16, error="cut"), [10.0])


def test_an_error_without_a_kill_is_unexplained() -> None:
    broken = visit(error="ConnectionResetError()")
    assert unexplained([visit(), broken], []) == [broken]
    assert unexplained([visit(), broken], [10.5]) == []


def shown(fingerprint: str, began: float) -> Visit:
    return visit(fingerprint=fingerprint, began=began)


def test_a_certificate_is_stale_some_time_after_the_next_one_came() -> None:
    swaps = [Event(0.0, "swap", "a", "a1"), Event(0.0, "swap", "b", "b1"), Event(50.0, "swap", "a", "a2")]
    fine = [shown("a1", 49), shown("a1", 54), shown("a2", 51), shown("b1", 99), shown("", 99), shown("wildcard", 99)]
    late = shown("a1", 56)
    assert stale([*fine, late], swaps, 5.0) == [late]


def test_compared_series_are_read_with_their_labels_in_order() -> None:
    text = (
        "# HELP snigate_connections_total Connections.\n"
        'snigate_connections_total{outcome="served",listener="web"} 3.0\n'
        'snigate_connections_total{outcome="idle",listener="web"} 0.0\n'
        'snigate_bytes_total{listener="web"} 9.0\n'
    )
    assert parsed(text) == {SERVED: 3}


def test_growth_is_what_came_since() -> None:
    assert growth({SERVED: 2, DONE: 1}, {SERVED: 5, DONE: 1}) == {SERVED: 3}
