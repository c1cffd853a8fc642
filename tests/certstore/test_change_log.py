from __future__ import annotations

import logging
from pathlib import Path

import pytest

from certstore import change_log
from certstore.catalogue import Catalogue, Settings, Snapshot
from certstore.certified_key import CertifiedKey
from certstore.inventory import Problem
from tests.support.certified_keys import certified_key
from tests.support.pki import Pair, put, self_signed


class Followed:
    """A certificate directory whose changes are logged."""

    def __init__(self, directory: Path) -> None:
        self.certs = directory / "certs"
        self.certs.mkdir()
        self._catalogue = Catalogue(Settings(directory / "state", (self.certs,), ()))
        self._before = Snapshot()
        self._monotonic = 0.0

    def look(self) -> None:
        self._monotonic += 10
        self._catalogue.scan(self._monotonic)
        before, after = self._before, self._catalogue.assess(0.0)
        change_log.note_problems(before, after)
        put = [one for one in after.certificates.values() if one.fingerprint not in before.certificates]
        retire = [one for one in before.certificates if one not in after.certificates]
        change_log.note_change(1, before, after, put, retire, self._catalogue.holds)
        self._before = after


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "snigate.keeper")
    return caplog


def lines(said: pytest.LogCaptureFixture, begin: str) -> list[str]:
    found = [one.getMessage() for one in said.records if begin in one.getMessage()]
    said.clear()
    return found


def test_a_certificate_without_its_key_is_warned_of_once_and_its_key_is_told(
    followed: Followed, said: pytest.LogCaptureFixture
) -> None:
    pair = self_signed("www.example.com")
    certificate = followed.certs / "www.crt"
    put(certificate, pair.certificate_pem)
    followed.look()
    (record,) = [one for one in said.records if str(certificate) in one.getMessage()]
    assert record.levelno == logging.WARNING
    assert "without its private key" in lines(said, str(certificate))[0]
    followed.look()
    assert lines(said, str(certificate)) == []
    put(followed.certs / "other-name.key", pair.key_pem)
    followed.look()
    assert f"{certificate}: has its private key now" in lines(said, str(certificate))


def test_a_certificate_without_key_that_is_removed_is_not_said_to_have_it(
    followed: Followed, said: pytest.LogCaptureFixture
) -> None:
    certificate = followed.certs / "www.crt"
    put(certificate, self_signed("www.example.com").certificate_pem)
    followed.look()
    certificate.unlink()
    followed.look()
    followed.look()
    assert lines(said, "has its private key") == []


def test_very_many_certificates_without_key_are_named_in_part_and_counted(
    followed: Followed, said: pytest.LogCaptureFixture
) -> None:
    for number in range(change_log.LOGGED_AT_MOST + 2):
        put(followed.certs / f"{number}.crt", self_signed(f"{number}.example").certificate_pem)
    followed.look()
    found = lines(said, "private key")
    assert len(found) == change_log.LOGGED_AT_MOST + 1
    assert found[-1] == "2 further files hold certificates without private key"


def _retired(followed: Followed, said: pytest.LogCaptureFixture, pair: Pair) -> str:
    followed.look()
    followed.look()
    (line,) = lines(said, f"retired certificate {pair.fingerprint[:16]}")
    return line.partition(": ")[2]


def test_a_certificate_retired_because_its_file_is_gone_says_so_and_what_is_left_for_its_name(
    followed: Followed, said: pytest.LogCaptureFixture
) -> None:
    pair, wildcard = self_signed("www.example.com"), self_signed("*.example.com")
    certificate, _ = pair.write(followed.certs, "www")
    wildcard_certificate, _ = wildcard.write(followed.certs, "wildcard")
    followed.look()
    certificate.unlink()
    why = f"{certificate} is gone; another certificate serves www.example.com"
    assert _retired(followed, said, pair) == why
    wildcard_certificate.unlink()
    assert (
        _retired(followed, said, wildcard)
        == f"{wildcard_certificate} is gone; no other certificate is for *.example.com"
    )


def test_a_certificate_that_another_has_replaced_names_it(followed: Followed, said: pytest.LogCaptureFixture) -> None:
    old, new = self_signed("www.example.com"), self_signed("www.example.com")
    old.write(followed.certs, "www")
    followed.look()
    certificate, _ = new.write(followed.certs, "www")
    assert _retired(followed, said, old) == f"{certificate} now holds {new.fingerprint[:16]}"


def certificate_log(before: list[CertifiedKey], after: list[CertifiedKey]) -> None:
    old, new = ({one.fingerprint: one for one in some} for some in (before, after))
    put = [one for one in after if one.fingerprint not in old]
    retire = [fingerprint for fingerprint in old if fingerprint not in new]
    change_log.note_change(1, Snapshot(old), Snapshot(new), put, retire, lambda _: False)


def test_a_certificate_with_countless_names_makes_a_short_line_when_it_comes_and_when_it_goes(
    said: pytest.LogCaptureFixture,
) -> None:
    many = certified_key("many", *(f"host{number:05}.example" for number in range(45_000)))
    certificate_log([], [many])
    certificate_log([many], [])
    assert len(said.messages) == 2
    for message in said.messages:
        assert len(message) < 400
        assert f"host00004.example and {45_000 - change_log.NAMES} more" in message


def test_a_certificate_with_few_names_is_logged_with_all_of_them(said: pytest.LogCaptureFixture) -> None:
    certificate_log([], [certified_key("few", "a.example", addresses=["192.0.2.1"]), certified_key("none")])
    assert "for a.example, 192.0.2.1 (" in said.messages[0]
    assert "for no name (" in said.messages[1]


def test_countless_problems_are_counted_and_not_all_told(said: pytest.LogCaptureFixture) -> None:
    most = change_log.PROBLEMS
    problems = tuple(Problem(f"/certs/{number}", "malformed", "is damaged") for number in range(10 * most))
    empty, full = Snapshot(), Snapshot(problems=problems)
    assert change_log.note_problems(empty, full)
    assert not change_log.note_problems(full, full)
    assert not change_log.note_problems(full, empty)
    assert len(said.messages) == 2 * (most + 1)
    assert f"{9 * most} more" in said.messages[most]
