from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy import rate
from proxy.rate import LEAST_SAVED, MOST, Rate


def test_after_what_was_saved_up_comes_so_many_a_second() -> None:
    one = Rate(5)
    burst = int(LEAST_SAVED)
    assert [one.allows("a", 100.0) for _ in range(burst + 2)] == [True] * burst + [False] * 2
    assert [one.allows("a", 100.2), one.allows("a", 100.2)] == [True, False]
    assert sum(one.allows("a", 101.2) for _ in range(20)) == 5
    assert sum(one.allows("a", 9999.0) for _ in range(50)) == burst


def test_one_clients_haste_is_not_anothers() -> None:
    one = Rate(1)
    while one.allows("a", 0.0):
        pass
    assert one.allows("b", 0.0)


def test_what_is_remembered_is_bounded() -> None:
    one = Rate(1)
    for number in range(MOST + 100):
        one.allows(str(number), float(number))
    assert len(one._saved) == MOST
    assert rate.MOST == MOST


@given(st.integers(1, 50), st.lists(st.floats(0, 5), max_size=200))
def test_in_no_span_of_time_are_there_more_than_saved_up_and_come_in(per_second: int, gaps: list[float]) -> None:
    one, now, moments = Rate(per_second), 0.0, []
    for gap in gaps:
        now += gap
        if one.allows("a", now):
            moments.append(now)
    most = max(LEAST_SAVED, per_second * rate.SAVED)
    for begin in range(len(moments)):
        for end in range(begin, len(moments)):
            assert end - begin + 1 <= most + (moments[end] - moments[begin]) * per_second + 1e-6
