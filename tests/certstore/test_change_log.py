from __future__ import annotations

import logging

import pytest

from certstore.change_log import NAMES, PROBLEMS, note_change, note_problems
from certstore.inventory import Problem
from tests.support.certified_keys import certified_key


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "snigate.keeper")


def test_a_certificate_with_countless_names_makes_a_short_line_when_it_comes_and_when_it_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    many = certified_key("many", *(f"host{number:05}.example" for number in range(45_000)))
    note_change(1, {}, [many], [])
    note_change(2, {many.fingerprint: many}, [], [many.fingerprint])
    assert len(caplog.messages) == 2
    for message in caplog.messages:
        assert len(message) < 300
        assert f"host00004.example and {45_000 - NAMES} more" in message


def test_a_certificate_with_few_names_is_logged_with_all_of_them(caplog: pytest.LogCaptureFixture) -> None:
    note_change(1, {}, [certified_key("few", "a.example", addresses=["192.0.2.1"]), certified_key("none")], [])
    assert "for a.example, 192.0.2.1 (" in caplog.messages[0]
    assert "for no name (" in caplog.messages[1]


def test_countless_problems_are_counted_and_not_all_told(caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem(f"/certs/{number}", "malformed", "is damaged") for number in range(10 * PROBLEMS)]
    assert note_problems([], problems)
    assert not note_problems(problems, problems)
    assert not note_problems(problems, [])
    assert len(caplog.messages) == 2 * (PROBLEMS + 1)
    assert f"{9 * PROBLEMS} more" in caplog.messages[PROBLEMS]
