from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from admin import answers
from admin.app import admin_app, local_app, metrics_app
from admin.guard import own_names
from admin.view import View
from proxy.server_certificate import pin_of
from tests.admin.asking import TOKEN, ask
from tests.admin.conftest import MakeView, Place, said
from tests.support.pki import DAY, self_signed


@pytest.fixture
def metrics_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "metrics"
    directory.mkdir()
    return directory


Serve = Callable[[View], ASGIApp]


@pytest.fixture
def serve(metrics_directory: Path) -> Serve:
    return lambda view: admin_app(view, metrics_directory, own_names(None), TOKEN, "a safe place")


def _json(app: ASGIApp, path: str) -> Any:
    answer = ask(app, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_health_is_ok(serve: Serve, make_view: MakeView) -> None:
    answer = ask(serve(make_view()), "/healthz", token=None)
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize(
    ("message", "status", "word"),
    [
        (said(), 200, "ready"),
        (said(workers=1), 200, "ready"),
        (said(workers=0), 503, "no-worker"),
        (said(draining=True), 503, "draining"),
    ],
)
def test_readiness_wants_a_worker_and_no_drain(
    serve: Serve, make_view: MakeView, message: dict[str, Any], status: int, word: str
) -> None:
    view = make_view()
    view.hear(message)
    answer = ask(serve(view), "/readyz", token=None)
    assert (answer.status_code, answer.text.strip()) == (status, word)


def test_head_is_answered_like_get_without_a_body(serve: Serve, make_view: MakeView) -> None:
    assert ask(serve(make_view()), "/healthz", "HEAD").status_code == 200


def test_the_page_at_the_root_lists_every_endpoint_and_runs_nothing(serve: Serve, make_view: MakeView) -> None:
    answer = ask(serve(make_view()), "/", token=None)
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    for path in ("/metrics", "/healthz", "/readyz", "/api/v1/certificates", "/api/v1/explain", "/api/v1/status"):
        assert f'href="{path}' in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/status/", "/api/v2/status", "/metrics/x"])
def test_an_unknown_path_is_a_problem_not_a_redirect(serve: Serve, make_view: MakeView, path: str) -> None:
    answer = ask(serve(make_view()), path)
    assert answer.status_code == 404
    assert msgspec.json.decode(answer.content, type=answers.ProblemDetails).status == 404


def test_certificates_tell_who_they_are_and_what_they_serve(place: Place, serve: Serve, make_view: MakeView) -> None:
    trusted = place.add(place.root.issue("www.example.com", "*.example.com"), "trusted")
    other = place.add(self_signed("www.example.com"), "other")
    found = _json(serve(make_view()), "/api/v1/certificates")
    by_fingerprint = {one["fingerprint"]: one for one in found["certificates"]}
    one = by_fingerprint[trusted.fingerprint]
    assert one["names"] == ["*.example.com", "www.example.com"]
    assert (one["standing"], one["trusted"], one["self_signed"]) == ("trusted", True, False)
    assert one["issuer"] == "CN=Test root"
    assert one["subject"] == "CN=www.example.com"
    assert 89 <= one["days_left"] <= 90
    assert one["not_after"].endswith("Z")
    assert [(serves["name"], serves["level"], serves["preferred"]) for serves in one["serves"]] == [
        ("*.example.com", 5, True),
        ("www.example.com", 1, True),
    ]
    assert by_fingerprint[other.fingerprint]["serves"] == []
    assert found["default"] is None
    assert b"PRIVATE" not in msgspec.json.encode(found)


def test_an_rsa_certificate_beside_an_ecdsa_one_serves_who_cannot_use_that(
    place: Place, serve: Serve, make_view: MakeView
) -> None:
    place.add(place.root.issue("www.example.com"), "ecdsa")
    rsa = place.add(place.root.issue("www.example.com", key_type="rsa-2048"), "rsa")
    found = _json(serve(make_view()), "/api/v1/certificates")["certificates"]
    serves = next(one["serves"] for one in found if one["fingerprint"] == rsa.fingerprint)
    assert serves == [{"name": "www.example.com", "level": 1, "level_words": "trusted, exact", "preferred": False}]


def test_files_with_problems_and_without_key_are_listed(place: Place, serve: Serve, make_view: MakeView) -> None:
    place.add(place.root.issue("a.example"), "lonely")
    (place.path / "certs/lonely.key").unlink()
    (place.path / "certs/bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    found = _json(serve(make_view()), "/api/v1/certificates")
    assert [(Path(one["path"]).name, one["reason"]) for one in found["problems"]] == [("bad.pem", "truncated")]
    assert [Path(path).name for path in found["waiting"]] == ["lonely.crt"]


def test_the_default_certificate_is_marked(place: Place, serve: Serve, make_view: MakeView) -> None:
    place.configure(certificates='default = "www.example.com"')
    pair = place.add(place.root.issue("www.example.com"), "www")
    found = _json(serve(make_view()), "/api/v1/certificates")
    assert found["certificates"][0]["is_default"] is True
    assert (found["default"]["fingerprint"], found["default"]["level"]) == (pair.fingerprint, 9)


def test_explain_lists_the_candidates_in_order(place: Place, serve: Serve, make_view: MakeView) -> None:
    exact = place.add(place.root.issue("www.example.com", not_after=-60), "exact")
    wildcard = place.add(place.root.issue("*.example.com"), "wildcard")
    found = _json(serve(make_view()), "/api/v1/explain?host=WWW.Example.com.")
    assert found["host"] == "www.example.com"
    assert found["served"] == exact.fingerprint
    assert [(one["rank"], one["level"], one["fingerprint"]) for one in found["candidates"]] == [
        (1, 4, exact.fingerprint),
        (2, 5, wildcard.fingerprint),
    ]
    assert "expired" in found["candidates"][0]["reason"]


def test_explain_with_an_empty_host_is_for_clients_without_server_name(
    place: Place, serve: Serve, make_view: MakeView
) -> None:
    place.configure(certificates='default = "www.example.com"')
    pair = place.add(place.root.issue("www.example.com"), "www")
    found = _json(serve(make_view()), "/api/v1/explain?host=")
    assert (found["host"], found["covered"], found["served"]) == (None, False, pair.fingerprint)


def test_explain_with_an_address_is_for_clients_that_connect_there_without_server_name(
    place: Place, serve: Serve, make_view: MakeView
) -> None:
    pair = place.add(place.root.issue("www.example.com", addresses=["192.0.2.1"]), "www")
    found = _json(serve(make_view()), "/api/v1/explain?host=192.0.2.1")
    assert (found["host"], found["address"], found["covered"]) == (None, "192.0.2.1", True)
    assert found["served"] == pair.fingerprint


def test_explain_takes_a_listeners_pin_and_default_into_account(
    place: Place, serve: Serve, make_view: MakeView
) -> None:
    old = place.add(place.root.issue("mx.example.com", not_after=5 * DAY), "old")
    new = place.add(place.root.issue("mx.example.com"), "new")
    place.configure(listener=f'default = "mx.example.com"\npin = ["{pin_of(old.certificate)}"]')
    app = serve(make_view())
    assert _json(app, "/api/v1/explain?host=mx.example.com")["served"] == new.fingerprint
    for host in ("mx.example.com", ""):
        found = _json(app, f"/api/v1/explain?host={host}&listener=web")
        assert (found["listener"], found["served"]) == ("web", old.fingerprint)
        assert [one["pinned"] for one in found["candidates"][:2]] == [True, False]


@pytest.mark.parametrize("query", ["listener=wbe", "listener=", "listener=web&listener=web"])
def test_explain_for_a_listener_that_does_not_exist_is_a_problem(serve: Serve, make_view: MakeView, query: str) -> None:
    answer = ask(serve(make_view()), f"/api/v1/explain?host=a.example&{query}")
    assert answer.status_code == 400
    assert "listener" in answer.json()["detail"]


@pytest.mark.parametrize(
    "query", ["", "?host=a..b", "?host=https://a.example/", "?host=a&host=b", "?Host=a", "?host=%ff%fe"]
)
def test_explain_without_one_proper_host_is_a_problem(serve: Serve, make_view: MakeView, query: str) -> None:
    answer = ask(serve(make_view()), f"/api/v1/explain{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "host name" in answer.json()["detail"]


def test_no_host_makes_explain_fail(place: Place, serve: Serve, make_view: MakeView) -> None:
    place.add(place.root.issue("*.example.com"), "wildcard")
    app = serve(make_view())

    @settings(deadline=None)
    @given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary()))
    def holds(host: str | bytes) -> None:
        assert ask(app, f"/api/v1/explain?host={quote(host)}").status_code in (200, 400)

    holds()


def test_status_tells_processes_listeners_and_store(serve: Serve, make_view: MakeView) -> None:
    view = make_view()
    view.hear(said(workers=1, restarts=3))
    found = msgspec.json.decode(ask(serve(view), "/api/v1/status").content, type=answers.Status)
    assert (found.ready, found.state, found.worker_restarts) == (True, "ready", 3)
    assert found.generation == 2
    assert [(one.role, one.generation, one.pid, one.state, one.ready) for one in found.processes] == [
        ("keeper", 1, 1, "ready", True),
        ("worker", 2, 4711, "ready", True),
        ("worker", 2, None, "down", False),
        ("worker", 1, 4713, "draining", False),
    ]
    assert found.listeners == (
        answers.Listener(
            "web", ("127.0.0.1:8443",), "tcp", "127.0.0.1:8000", "implicit", plain_text=False, default=None, pin=()
        ),
    )
    assert found.store is not None
    assert (found.store.last_scan, found.store.last_swap) == ("2023-11-14T22:13:20Z", "2020-09-13T12:26:40Z")
    assert found.replicas == (answers.Replica(0, 4711, 1, 2, "00ff"),)
    assert found.uptime_seconds >= 60


def test_before_the_keeper_has_reported_the_store_is_unknown(serve: Serve, make_view: MakeView) -> None:
    view = make_view()
    view.replica.report = None
    assert _json(serve(view), "/api/v1/status")["store"] is None
    assert _json(serve(view), "/api/v1/certificates")["problems"] == []


def test_the_metrics_address_has_metrics_and_health_only_under_any_host(
    make_view: MakeView, metrics_directory: Path
) -> None:
    app = metrics_app(make_view(), metrics_directory)
    for path, status in {"/metrics": 200, "/healthz": 200, "/readyz": 200, "/": 404, "/api/v1/status": 404}.items():
        assert ask(app, path, token=None, host="metrics.example").status_code == status


def test_the_local_socket_answers_the_api_without_a_token(make_view: MakeView, metrics_directory: Path) -> None:
    assert ask(local_app(make_view(), metrics_directory), "/api/v1/status", token=None).status_code == 200


def test_file_names_from_the_directories_cannot_break_the_answer(
    place: Place, serve: Serve, make_view: MakeView
) -> None:
    place.add(place.root.issue("www.example.com"), 'quote"\n\x1b[31m')
    found = _json(serve(make_view()), "/api/v1/certificates")
    assert all(path.isprintable() for path in found["certificates"][0]["paths"])
    assert ask(serve(make_view()), "/metrics").status_code == 200
