from __future__ import annotations

import pytest

from config.availability import NOT_AVAILABLE_YET

from .conftest import LISTENER, Load, Problems

ROUTE = '[[listeners.routes]]\nhosts = ["a.example"]\n'
BACKEND = '[backends.b]\nservers = ["h:1"]\n'


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (LISTENER + 'tls = "starttls"', "listeners[web].tls"),
        (BACKEND + 'client_address = "xclient"\n' + LISTENER, "backends.b.client_address"),
        (BACKEND + 'client_address = "imap-id"\n' + LISTENER, "backends.b.client_address"),
        (BACKEND + 'tls = "starttls"\n' + LISTENER, "backends.b.tls"),
    ],
)
def test_what_this_version_cannot_do_is_refused_by_its_key(problems: Problems, text: str, key: str) -> None:
    (problem,) = problems(text)
    assert problem.key == key
    assert "not available yet" in problem.message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (LISTENER + 'tls = "startls"', "listeners[web].tls"),
        (LISTENER + ROUTE + 'match_alpn = [""]', "listeners[web].routes[0].match_alpn[0]"),
        (LISTENER + ROUTE + 'action = "rejct"', "listeners[web].routes[0].action"),
        (BACKEND.replace('"h:1"', '"h:1", "/run/b"') + LISTENER, "backends.b.servers[1]"),
        (BACKEND + 'client_address = "xcleint"\n' + LISTENER, "backends.b.client_address"),
        (BACKEND + 'tls = "verfy"\n' + LISTENER, "backends.b.tls"),
    ],
)
def test_a_wrong_value_is_called_wrong_even_where_the_feature_is_not_available(
    problems: Problems, text: str, key: str
) -> None:
    (problem,) = problems(text)
    assert problem.key == key
    assert "not available yet" not in problem.message


def test_saying_the_default_of_an_unavailable_key_is_fine(loaded: Load) -> None:
    backend = BACKEND + 'client_address = "none"\ntls = "off"\nbalance = "round-robin"\n'
    listener = LISTENER + 'protocol = "tcp"\ntls = "implicit"\n'
    route = ROUTE + 'match_alpn = []\naction = "terminate"\nclient_auth = "off"\n'
    assert loaded(backend + listener + route).listeners[0].routes[0].action == "terminate"


def test_every_row_of_the_table_names_a_key_that_exists() -> None:
    for row in NOT_AVAILABLE_YET:
        assert row.key in row.table.model_fields
        assert "not available yet" in row.message
