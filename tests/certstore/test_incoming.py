from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certstore.cabinet import Cabinet
from certstore.certificate import read_certificate
from certstore.incoming import MAX_BYTES, MAX_FILES, ImportRefused, Incoming, read_files, sort
from certstore.issue import Subject, names_wanted, signing_request
from certstore.private_key import PrivateKey, read_private_key
from certstore.trust import TrustStore
from tests.support.pki import Authority, self_signed

ROOT = Authority.make("Root")
UPPER = Authority.make("Upper", ROOT)
LOWER = Authority.make("Lower", UPPER)
PAIR = LOWER.issue("www.example.com")
TRUST = TrustStore([read_certificate(ROOT.der)])


def sorted_(
    *files: bytes, known: Sequence[bytes] = (), keys: Sequence[PrivateKey] = (), trust: TrustStore = TRUST
) -> Incoming:
    by_spki = {one.spki: one for one in keys}
    content = read_files([("file", data) for data in files])
    return sort(content, [], by_spki.get, [read_certificate(one) for one in known], trust)


def test_a_chain_is_ordered_and_completed_from_what_is_known() -> None:
    together = sorted_(UPPER.pem + PAIR.key_pem, PAIR.certificate_pem, LOWER.pem).arrivals[0]
    completed = sorted_(PAIR.key_pem + PAIR.certificate_pem, known=(UPPER.der, LOWER.der)).arrivals[0]
    for arrival in (together, completed):
        assert arrival.chain == (LOWER.der, UPPER.der)
        assert arrival.missing == ""


@pytest.mark.parametrize(
    ("given_", "missing"),
    [((), "CN=Lower"), ((LOWER,), "CN=Upper"), ((UPPER,), "CN=Lower"), ((LOWER, UPPER), "")],
)
def test_the_first_link_that_is_missing_is_named(given_: tuple[Authority, ...], missing: str) -> None:
    (arrival,) = sorted_(PAIR.key_pem + PAIR.certificate_pem, *(one.pem for one in given_)).arrivals
    assert arrival.missing == missing


def test_a_root_that_came_along_is_known() -> None:
    (arrival,) = sorted_(PAIR.key_pem + PAIR.fullchain_pem, ROOT.pem, trust=TrustStore([])).arrivals
    assert arrival.missing == ""


def test_a_root_that_nobody_knows_is_missing_too() -> None:
    (arrival,) = sorted_(PAIR.key_pem + PAIR.fullchain_pem, trust=TrustStore([])).arrivals
    assert arrival.missing == "CN=Root"


def test_keys_come_from_the_files_a_request_or_what_is_served(tmp_path: Path) -> None:
    key = read_private_key(PAIR.key_der)
    assert sorted_(PAIR.certificate_pem, keys=[key]).arrivals[0].key == key
    names = names_wanted(["www.example.com"])
    request = Cabinet(tmp_path).put_request(names, key, signing_request(names, key.der, Subject()))
    content = read_files([("file", PAIR.certificate_pem)])
    (arrival,) = sort(content, [request], lambda _: None, [], TRUST).arrivals
    assert (arrival.key, arrival.request) == (key, request)


def test_keys_that_belong_to_nothing_are_counted() -> None:
    assert sorted_(PAIR.combined_pem).spare_keys == 0
    assert sorted_(PAIR.combined_pem, self_signed("other.example").key_pem).spare_keys == 1


def test_several_pairs_come_in_one_import() -> None:
    other = self_signed("other.example.com")
    found = sorted_(PAIR.combined_pem, other.combined_pem)
    assert {one.leaf.fingerprint for one in found.arrivals} == {PAIR.fingerprint, other.fingerprint}


def test_intermediates_alone_are_taken_and_roots_are_not() -> None:
    found = sorted_(LOWER.pem, UPPER.pem)
    assert [one.der for one in found.intermediates] == [LOWER.der, UPPER.der]
    with pytest.raises(ImportRefused, match="is a root certificate"):
        sorted_(ROOT.pem)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([PAIR.certificate_pem], "the private key of the certificate for www.example.com is not here"),
        ([PAIR.combined_pem, self_signed("other.example.com").certificate_pem], "other.example.com is not here"),
        ([PAIR.key_pem], "a private key, but no certificate"),
        ([], "neither a certificate nor a private key"),
        ([b"x" * (MAX_BYTES + 1)], "at most"),
        ([b"x"] * (MAX_FILES + 1), "at most"),
        ([b""], "file: is empty"),
    ],
)
def test_what_is_refused_is_said_in_a_sentence(files: list[bytes], words: str) -> None:
    with pytest.raises(ImportRefused, match=words):
        sorted_(*files)


files_ = st.one_of(st.binary(max_size=200), st.sampled_from([PAIR.key_pem, PAIR.certificate_pem, LOWER.pem]))


@given(st.lists(files_, max_size=4))
@settings(deadline=None)
def test_any_files_are_taken_or_refused(files: list[bytes]) -> None:
    refusal = ""
    try:
        found = sorted_(*files)
    except ImportRefused as refused:
        refusal = str(refused)
    assert refusal.isprintable()
    assert refusal or found.arrivals or found.intermediates
