"""Counts kept in memory: what prometheus-client is told in the end is what it would have been told at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.tallies import Count, Durations, Number

BOUNDS = (0.001, 0.5, 1.0, 10.0)


def samples(metric: Counter | Gauge | Histogram) -> dict[str, float]:
    return {
        f"{sample.name}{sample.labels}": round(sample.value, 6)
        for one in metric.collect()
        for sample in one.samples
        if not sample.name.endswith("_created")
    }


def test_a_count_is_written_once_however_often_it_was_counted() -> None:
    counter = Counter("one", "For a test.", registry=CollectorRegistry())
    count = Count(counter)
    count.inc()
    count.inc(41)
    assert samples(counter) == {"one_total{}": 0}
    count.write()
    count.write()
    assert samples(counter) == {"one_total{}": 42}


def test_a_number_is_written_as_it_is() -> None:
    gauge = Gauge("one", "For a test.", registry=CollectorRegistry())
    number = Number(gauge)
    number.now += 2
    number.now -= 1
    number.write()
    assert samples(gauge) == {"one{}": 1}
    number.now -= 1
    number.write()
    assert samples(gauge) == {"one{}": 0}


@given(st.lists(st.one_of(st.sampled_from((*BOUNDS, 0.0)), st.floats(0, 100)), max_size=30), st.integers(1, 5))
def test_durations_are_those_that_a_histogram_would_have_counted(seconds: list[float], every: int) -> None:
    registry = CollectorRegistry()
    at_once = Histogram("one", "For a test.", buckets=BOUNDS, registry=None)
    later = Histogram("one", "For a test.", buckets=BOUNDS, registry=registry)
    durations = Durations(later)
    for number, one in enumerate(seconds):
        at_once.observe(one)
        durations.observe(one)
        if number % every == 0:
            durations.write()
    durations.write()
    assert samples(later) == samples(at_once)
