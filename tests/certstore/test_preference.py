from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.key_types import KeyTypes
from certstore.preference import Preference
from certstore.ranking import Level
from certstore.selector import Selector
from tests.support.certified_keys import NOW, certified_key, pin_of, several, with_public_key

MX = "mx.example.com"
KEYS = ("old", "new", "other")
MADE = with_public_key(certified_key("made", "localhost"), "made")


class Clock:
    """A time that a test sets."""

    now = float(NOW)

    def __call__(self) -> float:
        return self.now


def index_of(*certificates: CertifiedKey) -> Index:
    index = Index()
    for _ in index.apply(certificates):
        pass
    return index


def selector_of(*certificates: CertifiedKey, default: str | None = None, pins: tuple[str, ...] = ()) -> Selector:
    preference = Preference(default, frozenset(map(pin_of, pins)))
    return Selector(index_of(*certificates), clock=lambda: NOW, preference=preference)


def served(selector: Selector, host: str | None, usable: int = int(KeyTypes.ALL)) -> str | None:
    selection = selector.select(host, usable)
    return selection.certificate.fingerprint if selection is not None else None


OLD = with_public_key(certified_key("old", MX, not_after=NOW + 10), "old")
NEW = with_public_key(certified_key("new", MX, trusted=True), "new")
WWW = with_public_key(certified_key("www", "www.example.com", trusted=True), "other")


def test_a_listener_has_its_own_default_before_everybodys() -> None:
    for default, expected in ((MX, NEW), (None, WWW), ("nowhere.example.org", WWW)):
        selector = selector_of(NEW, WWW, default=default)
        selector.set_default("www.example.com", MADE)
        assert served(selector, None) == expected.fingerprint
        assert served(selector, "unknown.example.org") == expected.fingerprint
        selection = selector.select(None)
        assert selection is not None
        assert selection.level is Level.DEFAULT
    assert served(selector_of(NEW, WWW, default=MX), "www.example.com") == WWW.fingerprint


def test_everybodys_default_comes_after_the_listeners_own_and_each_certificate_once() -> None:
    wildcard = with_public_key(certified_key("wildcard", "*.example.com"), "other")
    selector = selector_of(NEW, WWW, wildcard, default=MX)
    selector.set_default("www.example.com", MADE)
    found = selector.explain(None)
    assert [one.selection.certificate for one in found] == [NEW, wildcard, WWW, MADE]
    assert [one.reason.partition(";")[0] for one in found] == [
        f"the default certificate (the listener's default = {MX})",
        f"the default certificate (the listener's default = {MX})",
        "the default certificate (default = www.example.com)",
        "the default certificate (made at first start)",
    ]


def test_the_own_default_follows_its_certificates() -> None:
    index = index_of(WWW)
    selector = Selector(index, clock=lambda: NOW, preference=Preference(MX))
    selector.set_default("www.example.com", MADE)
    assert served(selector, None) == WWW.fingerprint
    for _ in index.apply([OLD]):
        pass
    assert served(selector, None) == OLD.fingerprint
    for _ in index.apply([NEW], [OLD.fingerprint]):
        pass
    assert served(selector, None) == NEW.fingerprint


def test_a_pinned_key_goes_before_whatever_is_ranked_better() -> None:
    assert served(selector_of(OLD, NEW), MX) == NEW.fingerprint
    assert served(selector_of(OLD, NEW, pins=("old",)), MX) == OLD.fingerprint
    wildcard = with_public_key(certified_key("wildcard", "*.example.com"), "old")
    assert served(selector_of(wildcard, NEW, pins=("old",)), MX) == wildcard.fingerprint


def test_a_pinned_key_goes_first_among_the_default_certificates_too() -> None:
    selector = selector_of(OLD, NEW, default=MX, pins=("old",))
    assert served(selector, None) == OLD.fingerprint
    selector.set_default("www.example.com", MADE)
    assert served(selector, None) == OLD.fingerprint


def test_a_renewed_certificate_with_the_pinned_key_is_picked_up() -> None:
    renewed = with_public_key(certified_key("renewed", MX, not_after=NOW + 500), "old")
    assert served(selector_of(OLD, renewed, NEW, pins=("old",)), MX) == renewed.fingerprint


def test_the_clock_ranks_pinned_certificates_anew() -> None:
    clock = Clock()
    second = with_public_key(certified_key("second", MX, not_before=NOW + 5, not_after=NOW + 500), "old")
    preference = Preference(None, frozenset((pin_of("old"),)))
    selector = Selector(index_of(OLD, NEW, second), clock=clock, preference=preference)
    assert served(selector, MX) == OLD.fingerprint
    clock.now += 5
    assert served(selector, MX) == second.fingerprint


def test_without_a_pinned_key_for_a_name_its_best_certificate_is_served() -> None:
    selector = selector_of(OLD, NEW, WWW, pins=("gone",))
    assert served(selector, MX) == NEW.fingerprint
    assert served(selector_of(OLD, WWW, pins=("old",)), "www.example.com") == WWW.fingerprint


def test_a_client_that_cannot_use_the_pinned_key_gets_the_next_it_can_use() -> None:
    rsa = with_public_key(certified_key("rsa", MX, key_type="rsa-2048"), "new")
    selector = selector_of(OLD, rsa, pins=("old",))
    assert served(selector, MX, int(KeyTypes.ALL)) == OLD.fingerprint
    assert served(selector, MX, int(KeyTypes.RSA)) == rsa.fingerprint


def test_a_pinned_certificate_that_openssl_refuses_makes_way() -> None:
    selector = selector_of(OLD, NEW, pins=("old",))
    selector.disregard(OLD.fingerprint)
    assert served(selector, MX) == NEW.fingerprint


def test_what_is_passed_over_says_so() -> None:
    reasons = [one.reason for one in selector_of(OLD, NEW, pins=("old",)).explain(MX)]
    assert reasons[0].startswith(f"has a pinned key; matches {MX}")
    assert reasons[1].startswith(f"passed over, since its key is not pinned; matches {MX}")
    (alone,) = selector_of(NEW, pins=("old",)).explain(MX)
    assert alone.reason.startswith("its key is not pinned, but neither is any other's; matches")


@given(several(minimum=1), st.data())
def test_pins_move_pinned_candidates_to_the_front_and_leave_the_order_otherwise(
    certificates: list[CertifiedKey], data: st.DataObject
) -> None:
    keyed = [with_public_key(one, data.draw(st.sampled_from(KEYS))) for one in certificates]
    pins = data.draw(st.sets(st.sampled_from(KEYS)))
    host = data.draw(st.sampled_from(("www.example.com", "mail.example.com", "example.com", "a.org", None)))
    preference = Preference(None, frozenset(map(pin_of, pins)))
    plain = Selector(index_of(*keyed), clock=lambda: NOW)
    pinned = Selector(index_of(*reversed(keyed)), clock=lambda: NOW, preference=preference)
    for selector in (plain, pinned):
        selector.set_default("www.example.com", MADE)
    for default in (False, True):
        before = [one.selection for one in plain.explain(host) if (one.selection.level is Level.DEFAULT) is default]
        after = [one.selection for one in pinned.explain(host) if (one.selection.level is Level.DEFAULT) is default]
        assert after == sorted(before, key=lambda one: preference.passes_over(one.certificate))
