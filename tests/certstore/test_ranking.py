from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certstore.certified_key import CertifiedKey
from certstore.ranking import Level, Order, Standing, level, next_change, rank, reason, standing
from tests.support.certified_keys import NOW, certified_key, certified_keys, several

ORDERS: tuple[Order, ...] = ("kerio", "unexpired-first")

TRUSTED = certified_key("trusted", trusted=True)
SELF_SIGNED = certified_key("self-signed", self_signed=True)
VALID = certified_key("valid")
EXPIRED = certified_key("expired", not_after=NOW, trusted=True)
NOT_YET_VALID = certified_key("not yet valid", not_before=NOW + 1, trusted=True)


@pytest.mark.parametrize(
    ("certificate", "expected", "exact", "wildcard"),
    [
        (TRUSTED, Standing.TRUSTED, 1, 5),
        (SELF_SIGNED, Standing.SELF_SIGNED, 2, 6),
        (VALID, Standing.VALID, 3, 7),
        (EXPIRED, Standing.EXPIRED, 4, 8),
        (NOT_YET_VALID, Standing.NOT_YET_VALID, 4, 8),
        (certified_key("both", self_signed=True, trusted=True), Standing.TRUSTED, 1, 5),
        (certified_key("old and self-signed", not_after=NOW - 1, self_signed=True), Standing.EXPIRED, 4, 8),
        (certified_key("its root has expired", trusted=(NOW - 1000, NOW)), Standing.VALID, 3, 7),
        (certified_key("its root is not yet valid", trusted=(NOW + 1, NOW + 1000)), Standing.VALID, 3, 7),
    ],
    ids=lambda value: value.leaf.decode() if isinstance(value, CertifiedKey) else None,
)
def test_the_level_follows_from_the_standing_and_the_match(
    certificate: CertifiedKey, expected: Standing, exact: int, wildcard: int
) -> None:
    assert standing(certificate, NOW) is expected
    assert level(certificate, wildcard=False, now=NOW) == exact
    assert level(certificate, wildcard=True, now=NOW) == wildcard


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("kerio", ["1", "2", "3", "4", "4n", "5", "6", "7", "8", "8n"]),
        ("unexpired-first", ["1", "2", "3", "5", "6", "7", "4", "4n", "8", "8n"]),
    ],
)
def test_each_order_puts_the_levels_where_it_says(order: Order, expected: list[str]) -> None:
    standings = (TRUSTED, SELF_SIGNED, VALID, EXPIRED, NOT_YET_VALID)
    candidates = {
        name: (one, wildcard)
        for wildcard, names in ((False, ("1", "2", "3", "4", "4n")), (True, ("5", "6", "7", "8", "8n")))
        for name, one in zip(names, standings, strict=True)
    }
    assert sorted(candidates, key=lambda name: rank(*candidates[name], NOW, order)) == expected


def test_inside_a_level_the_key_type_decides_before_the_dates_and_the_dates_before_the_fingerprint() -> None:
    best_first = [
        certified_key("a", key_type="ecdsa-p384", not_after=NOW + 9),
        certified_key("b", key_type="ecdsa-p256", not_after=NOW + 8, not_before=NOW - 1),
        certified_key("c", key_type="ecdsa-p256", not_after=NOW + 8, not_before=NOW - 2),
        certified_key("d", key_type="ed25519", not_after=NOW + 99),
        *sorted(
            (certified_key(name, key_type="rsa-2048", not_after=NOW + 100) for name in "efgh"),
            key=lambda one: one.fingerprint,
        ),
    ]
    shuffled = sorted(best_first, key=lambda one: one.leaf, reverse=True)
    assert sorted(shuffled, key=lambda one: rank(one, False, NOW, "kerio")) == best_first


def test_a_certificate_is_valid_from_its_first_second_and_expired_at_its_last() -> None:
    one = certified_key("a", not_before=NOW, not_after=NOW + 10, trusted=(NOW + 2, NOW + 5))
    seen = [standing(one, NOW + offset) for offset in (-0.001, 0, 2, 4.999, 5, 9.999, 10)]
    assert seen == [
        Standing.NOT_YET_VALID,
        Standing.VALID,
        Standing.TRUSTED,
        Standing.TRUSTED,
        Standing.VALID,
        Standing.VALID,
        Standing.EXPIRED,
    ]


def test_the_next_change_is_the_nearest_moment_to_come_and_never_one_that_is_past() -> None:
    one = certified_key("a", not_before=NOW, not_after=NOW + 10, trusted=(NOW + 2, NOW + 5))
    other = certified_key("b", not_before=NOW - 9, not_after=NOW + 4)
    moments = [next_change([one, other], NOW + offset) - NOW for offset in (-10, -9, 0, 2, 4, 5)]
    assert moments == [-9, 0, 2, 4, 5, 10]
    assert next_change([one, other], NOW + 10) == math.inf
    assert next_change([], NOW) == math.inf


def test_every_level_and_standing_has_words_for_people() -> None:
    assert Level.TRUSTED_EXACT.words == "trusted, exact"
    assert Level.SELF_SIGNED_WILDCARD.words == "self-signed, wildcard"
    assert Level.DEFAULT.words == "the default certificate"
    assert reason(TRUSTED, NOW) == "chain verifies, trusted until 1970-01-12 14:03:20 UTC"
    assert reason(SELF_SIGNED, NOW) == "signed by its own key, valid until 1970-01-12 14:03:20 UTC"
    assert reason(VALID, NOW) == "no chain to a trusted root, valid until 1970-01-12 14:03:20 UTC"
    assert reason(EXPIRED, NOW) == "expired on 1970-01-12 13:46:40 UTC"
    assert reason(NOT_YET_VALID, NOW) == "not valid before 1970-01-12 13:46:41 UTC"


@given(several(minimum=2), st.sampled_from(ORDERS), st.booleans(), st.data())
def test_ranks_do_not_tie_so_the_order_of_loading_cannot_matter(
    certificates: list[CertifiedKey], order: Order, wildcard: bool, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(certificates))
    ranks = {rank(one, wildcard, NOW, order) for one in certificates}
    assert len(ranks) == len(certificates)
    assert [one.fingerprint for one in sorted(shuffled, key=lambda one: rank(one, wildcard, NOW, order))] == [
        one.fingerprint for one in sorted(certificates, key=lambda one: rank(one, wildcard, NOW, order))
    ]


@given(certified_keys(), st.integers(NOW - 5, NOW + 5))
def test_nothing_changes_between_now_and_the_next_change(certificate: CertifiedKey, now: int) -> None:
    until = next_change([certificate], now)
    before = standing(certificate, now)
    for tenth in range(now * 10, now * 10 + 80):
        if tenth / 10 < until:
            assert standing(certificate, tenth / 10) is before
