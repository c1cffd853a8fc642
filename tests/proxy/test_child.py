from __future__ import annotations

import time

from proxy.child import MAX_DELAY, STABLE, Child, ChildSpec


def child() -> Child:
    return Child(ChildSpec("worker", lambda *_: None), 1)


def test_each_death_soon_after_a_start_doubles_the_wait_for_the_next_up_to_ten_seconds() -> None:
    one, now = child(), 1.0
    delays = [one.delay(now) for _ in range(1200)]
    assert delays[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
    assert set(delays[7:]) == {MAX_DELAY}
    assert one.start_at == now + MAX_DELAY


def test_who_lived_for_a_while_is_started_again_at_once_and_its_deaths_are_forgotten() -> None:
    one, now = child(), time.monotonic()
    one._started = now
    assert [one.delay(now + 1) for _ in range(3)] == [0.1, 0.2, 0.4]
    assert one.delay(now + STABLE + 0.1) == 0
    assert one.deaths == 0
    one._started = now + 10
    assert one.delay(now + 11) == 0.1
