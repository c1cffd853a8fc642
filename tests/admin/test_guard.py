from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from admin.guard import Guard, is_own_host, is_same_origin, own_names
from tests.admin.asking import TOKEN, ask, request

NAMES = own_names("admin.example.com")
APP = Guard(PlainTextResponse("inside"), NAMES, TOKEN, "a safe place")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9180",
        "[::1]",
        "[::1]:9180",
        "192.0.2.7",
        "localhost",
        "LOCALHOST.:80",
        "Admin.Example.com",
    ],
)
def test_addresses_localhost_and_the_configured_host_are_let_in(host: str) -> None:
    assert is_own_host(host, NAMES)


def test_this_machines_name_is_let_in() -> None:
    assert is_own_host(f"{socket.gethostname()}:9180", NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "[::1",
        "::1",
        "localhost:",
        "localhost:x",
        "127.0.0.1, evil.example",
        "[localhost]",
        " localhost",
    ],
)
def test_every_other_host_is_refused(host: str) -> None:
    assert not is_own_host(host, NAMES)


@given(st.text(st.characters(max_codepoint=255)))
def test_no_host_header_breaks_the_check(host: str) -> None:
    value = host.encode("latin-1")
    answer = request(APP, "/healthz", headers=[(b"host", value)])
    assert answer.status_code == (200 if is_own_host(host, NAMES) else 421)


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_no_origin_breaks_the_check(origin: str, host: str) -> None:
    assert is_same_origin(origin, host) in (True, False)


def test_a_rebound_name_is_told_that_it_is_not_served_here() -> None:
    answer = ask(APP, "/metrics", host="evil.example:9180")
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert "localhost" in answer.json()["detail"]


def test_two_host_headers_are_refused() -> None:
    headers = [("host", "localhost"), ("host", "evil.example")]
    assert request(APP, "/healthz", headers=headers).status_code == 421


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9180", "https://127.0.0.1:9180"])
def test_our_own_pages_may_ask(origin: str) -> None:
    assert ask(APP, "/api/v1/status", origin=origin).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8080", "", "http://["])
def test_pages_of_other_origins_may_not(origin: str) -> None:
    answer = ask(APP, "/api/v1/status", origin=origin)
    assert answer.status_code == 403
    assert "another site" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
def test_only_get_and_head_are_answered(method: str) -> None:
    answer = ask(APP, "/healthz", method)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_request_with_a_body_is_refused() -> None:
    assert request(APP, "/healthz", headers=[("content-length", "1")], content=b"x").status_code == 413
    assert request(APP, "/healthz", headers=[("transfer-encoding", "chunked")], content=b"x").status_code == 413
    assert request(APP, "/healthz", headers=[("content-length", "0")]).status_code == 200


@pytest.mark.parametrize("token", [None, "wrong", "", TOKEN + "x", "ü"])
def test_the_api_needs_the_token_and_says_where_it_is(token: str | None) -> None:
    headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
    answer = request(APP, "/api/v1/status", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "a safe place" in answer.json()["detail"]
    assert TOKEN not in answer.text


def test_two_authorization_headers_are_refused() -> None:
    value = f"Bearer {TOKEN}"
    headers = [("authorization", value), ("authorization", value)]
    assert request(APP, "/api/v1/status", headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/api/v1/openapi.json"])
def test_what_is_no_secret_needs_no_token(path: str) -> None:
    assert ask(APP, path, token=None).status_code == 200


def test_over_the_local_socket_neither_token_nor_host_matter() -> None:
    local = Guard(PlainTextResponse("inside"), None, None)
    assert ask(local, "/api/v1/status", token=None, host="whatever", origin="http://evil.example").status_code == 200


def test_every_answer_keeps_browsers_from_misusing_it() -> None:
    for answer in (ask(APP, "/healthz"), ask(APP, "/api/v1/status", token=None)):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
