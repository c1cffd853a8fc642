from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from admin import collector
from admin.app import local_app
from admin.collector import REJECT_REASONS, ControlCollector
from admin.view import View
from certstore.messages import Change
from proxy.metrics import empty_directory
from tests.admin.asking import ask
from tests.admin.conftest import MakeView, Place, said
from tests.support.pki import DAY

NOT_AFTER = "snigate_certificate_not_after_timestamp_seconds"
WILDCARD_ROUTE = '[[listeners.routes]]\nhosts = ["a.example.com", "b.example.com", "nowhere.example"]'


def _samples(view: View, name: str) -> list[tuple[Mapping[str, str], float]]:
    found = (sample for family in ControlCollector(view).collect() for sample in family.samples)
    return [(sample.labels, sample.value) for sample in found if sample.name == name]


def _value(view: View, name: str, labels: Mapping[str, str] | None = None) -> float:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ControlCollector(view))
    value = registry.get_sample_value(name, dict(labels or {}))
    assert value is not None
    return value


def _names(samples: Iterable[tuple[Mapping[str, str], float]]) -> list[str]:
    return [labels["name"] for labels, _ in samples]


def test_a_certificate_has_a_series_under_its_first_name(place: Place, make_view: MakeView) -> None:
    pair = place.add(place.root.issue("b.example", "a.example"), "pair")
    expected = {
        "name": "a.example",
        "path": str(place.path / "certs/pair.crt"),
        "fingerprint": pair.fingerprint,
        "key_type": "ecdsa-p256",
    }
    assert _samples(make_view(), NOT_AFTER) == [(expected, float(pair.not_after))]


def test_every_configured_host_that_is_covered_has_a_series_of_its_own(place: Place, make_view: MakeView) -> None:
    place.configure(listener=WILDCARD_ROUTE)
    place.add(place.root.issue("*.example.com"), "wildcard")
    assert _names(_samples(make_view(), NOT_AFTER)) == ["a.example.com", "b.example.com", "*.example.com"]


def test_beyond_the_limit_only_what_expires_soonest_has_a_series(
    place: Place, make_view: MakeView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "EXPIRING", 3)
    for days in (-400, -300, -1, 5, 50):
        place.add(place.root.issue(f"d{days}.example".replace("-", "m"), not_after=days * DAY), f"d{days}")
    view = make_view()
    assert _names(_samples(view, NOT_AFTER)) == ["dm1.example", "d5.example", "d50.example"]
    monkeypatch.setattr(collector, "EXPIRING", 4)
    assert _names(_samples(view, NOT_AFTER))[-1] == "dm300.example"
    assert _value(view, "snigate_certificates") == 5


def test_the_series_of_a_deleted_certificate_disappears(place: Place, make_view: MakeView) -> None:
    pair = place.add(place.root.issue("a.example"), "pair")
    view = make_view()
    asyncio.run(view.replica.take_in(Change(2, False, True, [], [pair.fingerprint], None, None)))
    assert _samples(view, NOT_AFTER) == []
    assert _value(view, "snigate_certificates") == 0


def test_every_reason_is_there_with_zero_and_what_is_found_is_counted(place: Place, make_view: MakeView) -> None:
    (place.path / "certs/one.pem").write_text("")
    (place.path / "certs/two.pem").write_text("")
    found = {labels["reason"]: value for labels, value in _samples(make_view(), "snigate_certificate_files_rejected")}
    assert found == {**dict.fromkeys(REJECT_REASONS, 0.0), "truncated": 2.0}


def test_every_reason_of_the_certificate_store_is_known() -> None:
    sources = (Path(collector.__file__).parents[1] / "certstore").glob("*.py")
    text = "\n".join(file.read_text() for file in sources)
    for reason in ("unreadable_directory", "trust", "default_name", "unreadable"):
        assert f'"{reason}"' in text
        assert reason in REJECT_REASONS


def test_the_stores_swaps_and_times_are_the_keepers(make_view: MakeView) -> None:
    view = make_view()
    assert _value(view, "snigate_certstore_swaps_total", {"result": "applied"}) == 3
    assert _value(view, "snigate_certstore_swaps_total", {"result": "rejected"}) == 1
    assert _value(view, "snigate_certstore_last_scan_timestamp_seconds") == 1_700_000_000
    assert _value(view, "snigate_certstore_last_swap_timestamp_seconds") == 1_600_000_000


def test_before_the_keeper_has_reported_there_are_no_times_but_all_counters(make_view: MakeView) -> None:
    view = make_view()
    view.replica.report = None
    assert _samples(view, "snigate_certstore_last_scan_timestamp_seconds") == []
    assert _value(view, "snigate_certstore_swaps_total", {"result": "applied"}) == 0
    assert _value(view, "snigate_certificate_files_rejected", {"reason": "malformed"}) == 0


def test_workers_and_restarts_are_the_supervisors(make_view: MakeView) -> None:
    view = make_view()
    view.hear(said(workers=1, restarts=7))
    assert _value(view, "snigate_workers") == 1
    assert _value(view, "snigate_worker_restarts_total") == 7
    assert _value(view, "snigate_config_reloads_total", {"result": "applied"}) == 4
    assert _value(view, "snigate_config_reloads_total", {"result": "rejected"}) == 5


def test_the_build_is_named(make_view: MakeView) -> None:
    ((labels, value),) = _samples(make_view(), "snigate_build_info")
    assert value == 1
    assert labels["openssl"].startswith("OpenSSL ")
    assert set(labels) == {"version", "openssl", "python"}


def test_a_scrape_is_well_formed_whatever_files_are_called(place: Place, make_view: MakeView) -> None:
    place.add(place.root.issue("a.example"), 'x"\\\n')
    text = ask(local_app(make_view(), empty_directory(place.path)), "/metrics").text
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"snigate_certificates", "snigate_build_info", "snigate_workers"} <= families


def test_a_scrape_while_a_worker_begins_its_files_is_answered(place: Place, make_view: MakeView) -> None:
    directory = empty_directory(place.path)
    (directory / "counter_0.db").touch()
    answer = ask(local_app(make_view(), directory), "/metrics")
    assert answer.status_code == 200
    assert "snigate_workers" in answer.text
