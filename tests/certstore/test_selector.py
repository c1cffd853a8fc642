from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certstore.catalogue import Catalogue, Settings
from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.key_types import KeyTypes
from certstore.names import canonical_name
from certstore.ranking import Level, Order, rank
from certstore.selector import Selector
from tests.support.certified_keys import NOW, certified_key, certified_keys, several
from tests.support.nine_levels import ORDERS, NineLevels

HOSTS = ("www.example.com", "example.com", "mail.example.com", "other.example.com", "a.org", "a.b.org", "localhost")
MADE = certified_key("made at first start", "localhost.localdomain")


def selector_of(
    *certificates: CertifiedKey, order: Order = "kerio", clock: Callable[[], float] = lambda: NOW
) -> Selector:
    index = Index()
    for _ in index.apply(certificates):
        pass
    return Selector(index, order, clock)


def picked(selector: Selector, host: str | None, usable: int = KeyTypes.ALL) -> str | None:
    selection = selector.select(host, int(usable))
    return selection.certificate.leaf.decode() if selection else None


@pytest.fixture(scope="module")
def nine_levels(tmp_path_factory: pytest.TempPathFactory) -> tuple[NineLevels, Settings]:
    """The certificates of all levels, and where they are."""
    directory = tmp_path_factory.mktemp("levels")
    levels = NineLevels(directory / "certificates")
    (directory / "root.pem").write_bytes(levels.root.pem)
    state = directory / "state"
    (state / "certs").mkdir(parents=True)
    return levels, Settings(
        state, (directory / "certificates",), (directory / "root.pem",), default="default.example.com"
    )


@pytest.mark.parametrize("order", ORDERS)
def test_the_better_of_two_levels_wins_for_each_two_of_the_nine(
    nine_levels: tuple[NineLevels, Settings], order: Order
) -> None:
    levels, settings = nine_levels
    snapshot = Catalogue(settings).refresh(time.time(), time.monotonic())
    assert not snapshot.problems
    selector = selector_of(*snapshot.certificates.values(), order=order, clock=time.time)
    selector.set_default(snapshot.default_name, None)
    expected = levels.expected(order)
    assert len(expected) == 47
    for host, fingerprint, level in expected:
        selection = selector.select(host)
        assert selection is not None
        assert (host, selection.certificate.fingerprint, selection.level) == (host, fingerprint, level)
        assert selector.explain(host)[0].selection == selection


def test_a_wildcard_covers_exactly_one_label() -> None:
    selector = selector_of(certified_key("wildcard", "*.example.com"))
    assert picked(selector, "www.example.com") == "wildcard"
    assert picked(selector, "example.com") is None
    assert picked(selector, "a.www.example.com") is None


def test_a_host_with_an_exact_certificate_may_still_get_the_better_wildcard() -> None:
    exact = certified_key("exact", "www.example.com", not_after=NOW)
    wildcard = certified_key("wildcard", "*.example.com")
    assert picked(selector_of(exact, wildcard), "www.example.com") == "exact"
    assert picked(selector_of(exact, wildcard, order="unexpired-first"), "www.example.com") == "wildcard"


def test_a_certificate_with_both_the_name_and_the_wildcard_counts_once_and_as_exact() -> None:
    selector = selector_of(certified_key("both", "www.example.com", "*.example.com"))
    assert [(one.selection.matched, one.selection.level) for one in selector.explain("www.example.com")] == [
        ("www.example.com", Level.VALID_EXACT)
    ]


def test_the_client_gets_the_best_certificate_whose_key_it_can_use() -> None:
    selector = selector_of(
        certified_key("ecdsa", "example.com", trusted=True),
        certified_key("rsa", "example.com", key_type="rsa-2048", trusted=True),
        certified_key("worse rsa", "example.com", key_type="rsa-4096", not_after=NOW + 9999),
    )
    assert picked(selector, "example.com") == "ecdsa"
    assert picked(selector, "example.com", KeyTypes.RSA | KeyTypes.ED25519) == "rsa"
    assert picked(selector, "example.com", KeyTypes.ED25519) == "ecdsa"


def test_a_client_that_can_use_no_certificate_of_its_name_gets_the_default_it_can_use_unless_strict() -> None:
    selector = selector_of(certified_key("ecdsa", "example.com"))
    selector.set_default(None, certified_key("made", key_type="rsa-2048"))
    assert picked(selector, "example.com", KeyTypes.RSA) == "made"
    strict = selector.select("example.com", int(KeyTypes.RSA), strict=True)
    assert strict is not None
    assert strict.certificate.leaf == b"ecdsa"


def test_an_unknown_name_gets_the_default_certificate_and_none_at_all_when_strict() -> None:
    selector = selector_of(certified_key("default", "default.example.com"), certified_key("other", "www.example.com"))
    selector.set_default("default.example.com", MADE)
    for host in ("unknown.example.net", None):
        selection = selector.select(host)
        assert selection is not None
        assert (selection.certificate.leaf, selection.level) == (b"default", Level.DEFAULT)
        assert selector.select(host, strict=True) is None


def test_the_certificate_made_at_first_start_is_the_last_resort_and_serves_nothing_else() -> None:
    selector = selector_of(certified_key("default", "default.example.com", not_after=NOW - 1))
    selector.set_default("default.example.com", MADE)
    assert [one.selection.certificate.leaf for one in selector.explain("unknown.example.net")] == [
        b"default",
        b"made at first start",
    ]
    assert picked(selector_of(), "localhost.localdomain") is None
    selector.set_default("missing.example.com", MADE)
    assert picked(selector, None) == "made at first start"


def test_without_a_server_name_the_local_address_is_looked_for_among_the_ip_sans() -> None:
    selector = selector_of(certified_key("address", "example.com", addresses=["192.0.2.1"]))
    selector.set_default(None, MADE)
    selection = selector.select(None, local_address="192.0.2.1")
    assert selection is not None
    assert (selection.certificate.leaf, selection.matched, selection.level) == (b"address", "192.0.2.1", 3)
    other = selector.select(None, local_address="192.0.2.2")
    assert other is not None
    assert other.level is Level.DEFAULT


def test_explain_gives_every_candidate_best_first_with_its_level_and_reason() -> None:
    selector = selector_of(
        certified_key("expired", "www.example.com", not_after=NOW),
        certified_key("trusted", "*.example.com", trusted=True),
        certified_key("unrelated", "example.com"),
        certified_key("self-signed", "www.example.com", self_signed=True),
    )
    selector.set_default("example.com", MADE)
    said = [
        (one.selection.certificate.leaf, one.selection.level.value, one.reason)
        for one in selector.explain("www.example.com")
    ]
    until = "1970-01-12 14:03:20 UTC"
    assert said == [
        (b"self-signed", 2, f"matches www.example.com; signed by its own key, valid until {until}"),
        (b"expired", 4, "matches www.example.com; expired on 1970-01-12 13:46:40 UTC"),
        (b"trusted", 5, f"matches *.example.com; chain verifies, trusted until {until}"),
        (
            b"unrelated",
            9,
            f"the default certificate (default = example.com); no chain to a trusted root, valid until {until}",
        ),
        (
            b"made at first start",
            9,
            f"the default certificate (made at first start); no chain to a trusted root, valid until {until}",
        ),
    ]


def test_the_clock_alone_changes_the_pick_forwards_and_backwards() -> None:
    now = float(NOW)
    selector = selector_of(
        certified_key("first", "example.com", not_before=NOW, not_after=NOW + 10, trusted=True),
        certified_key("later", "example.com", not_before=NOW + 5, not_after=NOW + 20, trusted=(NOW + 7, NOW + 12)),
        clock=lambda: now,
    )
    seen = {}
    for offset in (0, 6, 7, 11.9, 12, 20, 6, -1):
        now = NOW + offset
        seen[offset] = picked(selector, "example.com")
    assert seen == {0: "first", 6: "first", 7: "later", 11.9: "later", 12: "later", 20: "later", -1: "later"}


def test_the_default_is_ranked_anew_by_the_clock_too() -> None:
    now = float(NOW)
    selector = selector_of(
        certified_key("ends soon", "example.com", not_after=NOW + 5, trusted=True),
        certified_key("lasts", "example.com"),
        clock=lambda: now,
    )
    selector.set_default("example.com", MADE)
    assert picked(selector, None) == "ends soon"
    now += 5
    assert picked(selector, None) == "lasts"


def test_a_certificate_that_cannot_be_used_makes_way_until_it_is_replaced() -> None:
    best, next_best = certified_key("best", "example.com", trusted=True), certified_key("next", "example.com")
    selector = selector_of(best, next_best)
    selector.disregard(best.fingerprint)
    assert picked(selector, "example.com") == "next"
    selector.regard([best.fingerprint])
    assert picked(selector, "example.com") == "best"


def test_invented_host_names_under_a_wildcard_do_not_grow_the_cache() -> None:
    selector = selector_of(certified_key("wildcard", "*.example.com"))
    selector.set_default(None, MADE)
    for number in range(1000):
        selector.select(f"host{number}.example.com")
        selector.select(f"host{number}.example.net")
    assert len(selector._rankings) <= 2


@given(several(), st.sampled_from(HOSTS), st.sampled_from(ORDERS), st.data())
def test_the_pick_never_depends_on_the_order_of_loading(
    certificates: list[CertifiedKey], host: str, order: Order, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(certificates))
    assert picked(selector_of(*shuffled, order=order), host) == picked(selector_of(*certificates, order=order), host)


@given(several(), certified_keys("added"), st.sampled_from(HOSTS), st.sampled_from(ORDERS))
def test_an_added_certificate_is_picked_only_when_it_is_better_and_changes_nothing_otherwise(
    certificates: list[CertifiedKey], added: CertifiedKey, host: str, order: Order
) -> None:
    before = selector_of(*certificates, order=order).select(host)
    after = selector_of(*certificates, added, order=order).select(host)
    matches = [pattern for pattern in (host, f"*.{host.partition('.')[2]}") if pattern in added.names]
    if not matches:
        assert after == before
        return
    new = rank(added, matches[0].startswith("*."), NOW, order)
    if before is None or new < rank(before.certificate, before.matched.startswith("*."), NOW, order):
        assert after is not None
        assert after.certificate == added
    else:
        assert after == before


@given(several(), st.sampled_from(HOSTS), st.sampled_from(ORDERS), st.lists(st.integers(NOW - 5, NOW + 5), max_size=6))
def test_a_cached_answer_is_the_one_a_fresh_selector_gives(
    certificates: list[CertifiedKey], host: str, order: Order, times: list[int]
) -> None:
    now = NOW
    cached = selector_of(*certificates, order=order, clock=lambda: now)
    for moment in times:
        now = moment
        fresh = selector_of(*certificates, order=order, clock=partial(float, moment))
        assert cached.select(host) == fresh.select(host)


LABELS = st.sampled_from(("bücher", "faß", "straße", "日本", "münchen", "www", "mail-1", "_dmarc", "βόλος"))


@given(st.lists(LABELS, min_size=1, max_size=3), st.data())
def test_names_in_any_case_with_a_trailing_dot_as_u_label_or_a_label_agree(
    labels: list[str], data: st.DataObject
) -> None:
    spelling = ".".join([*labels, "example"])
    canonical = canonical_name(spelling)
    variants = [spelling, spelling.title(), spelling.upper() if spelling.isascii() else spelling]
    variants += [canonical, canonical.upper(), canonical.title()]
    chosen = data.draw(st.sampled_from(variants)) + data.draw(st.sampled_from(("", ".")))
    selector = selector_of(certified_key("one", canonical))
    assert picked(selector, canonical_name(chosen)) == "one"
