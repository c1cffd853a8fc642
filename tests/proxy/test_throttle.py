from __future__ import annotations

from proxy.throttle import Throttle


def test_something_happens_once_and_then_not_until_the_time_is_over() -> None:
    throttle = Throttle(60)
    assert [throttle.allows(now) for now in (5, 5, 64.9, 65, 124, 500)] == [True, False, False, True, False, True]


def test_it_tells_how_often_it_held_something_back_since_it_was_asked_last() -> None:
    throttle = Throttle(60)
    for now in (0, 1, 2, 60, 61):
        throttle.allows(now)
    assert throttle.held_back() == 3
    assert throttle.held_back() == 0
