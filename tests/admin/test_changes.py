"""The API's part that changes something."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from starlette.types import ASGIApp

from admin.app import admin_app
from admin.guard import MAX_BODY, own_names
from tests.admin.asking import TOKEN, ask, request
from tests.admin.conftest import MakeView, Place
from tests.support.pki import Authority, Pair

Ask = Callable[..., Any]


@pytest.fixture
def serve(make_view: MakeView, tmp_path: Path) -> Callable[[], ASGIApp]:
    """The application over what the directories hold when it is called."""
    (tmp_path / "metrics").mkdir()
    return lambda: admin_app(make_view(), tmp_path / "metrics", own_names(None), TOKEN, "a safe place")


def send(app: ASGIApp, method: str, path: str, body: object = None, status: int = 200) -> Any:
    headers = [("authorization", f"Bearer {TOKEN}")]
    content = json.dumps(body).encode() if body is not None else None
    answer = request(app, f"/api/v1{path}", method, headers, content)
    assert answer.status_code == status, answer.text
    return answer.json() if "json" in answer.headers["content-type"] else answer.content


def upload(data: bytes, name: str = "file") -> dict[str, str]:
    return {"name": name, "content": base64.b64encode(data).decode()}


def held(place: Place) -> set[str]:
    return {one.fingerprint for one in place.read().index}


def state(place: Place) -> Path:
    return place.config.server.state_directory


def audited(place: Place) -> list[tuple[str, str, str]]:
    lines = (state(place) / "audit.log").read_text().splitlines()
    return [(one["who"], one["from"], one["action"]) for one in map(json.loads, lines)]


def test_a_self_signed_certificate_is_made_renewed_and_deleted(place: Place, serve: Callable[[], ASGIApp]) -> None:
    made = send(serve(), "POST", "/certificates", {"names": ["www.example.com"], "days": 10}, 201)
    assert held(place) == {made["fingerprint"]}
    assert [(one["name"], one["before"], one["after"]["level"]) for one in made["changes"]] == [
        ("www.example.com", None, 2)
    ]
    renewed = send(serve(), "POST", f"/certificates/{made['fingerprint']}/renew", {}, 201)
    assert held(place) == {made["fingerprint"], renewed["fingerprint"]}
    first, second = (send(serve(), "GET", f"/certificates/{one['fingerprint']}") for one in (made, renewed))
    assert first["spki"] == second["spki"]
    tried = send(serve(), "DELETE", f"/certificates/{renewed['fingerprint']}?dry_run=true")
    assert len(held(place)) == 2
    gone = send(serve(), "DELETE", f"/certificates/{renewed['fingerprint'][:8]}")
    assert gone["changes"] == tried["changes"] != []
    assert held(place) == {made["fingerprint"]}
    assert audited(place) == [("token", "127.0.0.1", action) for action in ("new", "renew", "delete")]


def test_a_request_waits_for_its_certificate_which_is_imported(place: Place, serve: Callable[[], ASGIApp]) -> None:
    subject = {"organization": "Ex GmbH", "country": "DE"}
    made = send(serve(), "POST", "/requests", {"names": ["mail.example.com"], "subject": subject}, 201)
    assert send(serve(), "GET", "/requests") == [made]
    csr = x509.load_pem_x509_csr(made["request"].encode())
    signed = place.root.issue("mail.example.com", key=_key_of(place, made["id"]))
    assert signed.certificate.public_key() == csr.public_key()
    (done,) = send(serve(), "POST", "/certificates/import", {"files": [upload(signed.certificate_pem)]}, 201)
    assert held(place) == {done["fingerprint"]} == {signed.fingerprint}
    assert send(serve(), "GET", "/requests") == []


def _key_of(place: Place, spki: str) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    (file,) = (state(place) / "requests").iterdir()
    assert spki.startswith(file.stem.rpartition("-")[2])
    return load_pem_private_key(file.read_bytes(), None)


def test_a_request_is_withdrawn(place: Place, serve: Callable[[], ASGIApp]) -> None:
    made = send(serve(), "POST", "/requests", {"names": ["mail.example.com"]}, 201)
    send(serve(), "DELETE", f"/requests/{made['id']}")
    assert send(serve(), "GET", "/requests") == []
    assert "no request" in send(serve(), "DELETE", f"/requests/{made['id']}", status=422)["detail"]


def test_parts_are_exported_as_files(place: Place, serve: Callable[[], ASGIApp]) -> None:
    pair = place.add(place.root.issue("*.example.com"), "wild")
    path = f"/certificates/{pair.fingerprint}/export"
    assert send(serve(), "POST", path, {"part": "fullchain"}) == pair.certificate_pem
    answer = request(serve(), f"/api/v1{path}", "POST", [("authorization", f"Bearer {TOKEN}")], b'{"part": "key"}')
    assert answer.content == pair.key_pem
    assert answer.headers["content-disposition"] == 'attachment; filename="_.example.com.key"'
    assert send(serve(), "POST", path, {"part": "pkcs12"}, 422)["field"] == "passphrase"
    assert send(serve(), "POST", path, {"part": "all"}, 422)["field"] == "part"
    assert [action for _, _, action in audited(place)] == ["export-key"]


def test_the_default_is_tried_and_set(place: Place, serve: Callable[[], ASGIApp]) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    assert send(serve(), "PUT", "/default", {"host": "other.example.com"}, 422)["field"] == "host"
    assert send(serve(), "PUT", "/default", {"host": "a b"}, 422)["field"] == "host"
    tried = send(serve(), "PUT", "/default?dry_run=true", {"host": "WWW.example.com"})
    assert not (state(place) / "default").exists()
    done = send(serve(), "PUT", "/default", {"host": "WWW.example.com"})
    assert done["changes"] == tried["changes"]
    assert done["changes"][0]["after"]["fingerprint"] == pair.fingerprint
    assert (state(place) / "default").read_text() == "www.example.com\n"


def test_roots_are_added_and_removed(place: Place, serve: Callable[[], ASGIApp]) -> None:
    private = Authority.make("Private root")
    (added,) = send(serve(), "POST", "/trust", {"files": [upload(private.pem)]}, 201)
    assert [one["subject"] for one in send(serve(), "GET", "/trust") if one["added"]] == ["CN=Private root"]
    with_key = Pair(private.certificate, private.key).combined_pem
    assert "a private key in the files" in send(serve(), "POST", "/trust", {"files": [upload(with_key)]}, 422)["detail"]
    send(serve(), "DELETE", f"/trust/{added['fingerprint']}")
    assert not [one for one in send(serve(), "GET", "/trust") if one["added"]]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/certificates", {}, "missing required field `names`"),
        ("/certificates", {"names": [], "x": 1}, "unknown field `x`"),
        ("/certificates", {"names": []}, "at least one host name"),
        ("/certificates", {"names": ["../../etc/passwd"]}, "has an empty label"),
        ("/certificates", {"names": ["a\0.example"]}, "not a host name"),
        ("/certificates/import", {"files": [{"content": "!"}]}, "base64"),
        ("/certificates/import", {"files": []}, "neither a certificate nor a private key"),
        ("/requests", {"names": ["a.example"], "subject": {"country": "Germany"}}, "country"),
        ("/requests", {"names": ["a.example"], "subject": {"organization": "x" * 65}}, "organization has at most 64"),
    ],
)
def test_what_makes_no_sense_is_said_and_changes_nothing(
    place: Place, serve: Callable[[], ASGIApp], path: str, body: object, words: str
) -> None:
    before = place.files()
    answer = send(serve(), "POST", path, body, 422)
    assert words in answer["detail"]
    assert place.files() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/certificates"),
        ("POST", "/certificates/import"),
        ("DELETE", "/certificates/{}"),
        ("POST", "/certificates/{}/renew"),
        ("POST", "/certificates/{}/export"),
        ("POST", "/requests"),
        ("DELETE", "/requests/www.example.com"),
        ("PUT", "/default"),
        ("POST", "/trust"),
        ("DELETE", "/trust/{}"),
        ("GET", "/requests"),
        ("GET", "/trust"),
        ("GET", "/certificates/{}"),
    ],
)
def test_nothing_is_changed_or_shown_without_the_token_or_for_another_sites_page(
    place: Place, serve: Callable[[], ASGIApp], method: str, path: str
) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    before = place.files() | {"metrics"}
    app, target = serve(), f"/api/v1{path.format(pair.fingerprint)}"
    assert ask(app, target, method, token=None).status_code == 401
    assert ask(app, target, method, token="wrong").status_code == 401
    assert ask(app, target, method, origin="http://evil.example").status_code == 403
    assert ask(app, target, method, host="evil.example").status_code == 421
    assert place.files() == before


@pytest.mark.parametrize(
    "parameters", ["dry_run=True", "dry_run=1", "dry_run", "dryrun=true", "dry_run=true&dry_run=no"]
)
def test_what_may_be_meant_to_try_does_nothing(place: Place, serve: Callable[[], ASGIApp], parameters: str) -> None:
    made = send(serve(), "POST", "/certificates", {"names": ["www.example.com"]}, 201)
    answer = send(serve(), "DELETE", f"/certificates/{made['fingerprint']}?{parameters}", status=422)
    assert 'no parameter but "dry_run"' in answer["detail"]
    assert held(place) == {made["fingerprint"]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 200_000, "not as described"),
        (b'{"names": ["a.example"], "subject": {"organisation": "misspelt"}}', "organisation"),
        (json.dumps({"names": [f"n{number}.example" for number in range(1001)]}).encode(), "at most 1000 names"),
    ],
)
def test_odd_bodies_are_refused(serve: Callable[[], ASGIApp], body: bytes, words: str) -> None:
    headers = [("authorization", f"Bearer {TOKEN}")]
    answer = request(serve(), "/api/v1/requests", "POST", headers, body)
    assert answer.status_code == 422, answer.text
    assert words in answer.text


def test_a_body_has_a_length_and_a_limit(serve: Callable[[], ASGIApp]) -> None:
    token = ("authorization", f"Bearer {TOKEN}")
    path = "/api/v1/certificates/import"
    large = request(serve(), path, "POST", [token, ("content-length", str(MAX_BODY + 1))], b"x")
    assert large.status_code == 413
    assert request(serve(), path, "POST", [token, ("transfer-encoding", "chunked")], b"x").status_code == 411
    assert request(serve(), "/api/v1/status", "GET", [token, ("content-length", "1")], b"x").status_code == 413


def test_no_certificate_has_such_a_fingerprint(place: Place, serve: Callable[[], ASGIApp]) -> None:
    place.add(place.root.issue("www.example.com"), "www")
    for which in ("ffffffffffff", "", "f", "zzzzzzzzzz"):
        answer = ask(serve(), f"/api/v1/certificates/{which or '%20'}", "DELETE")
        assert answer.status_code == 404
