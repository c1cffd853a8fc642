from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from certstore.certified_key import CertifiedKey
from certstore.handover import Handover, Situation, handovers
from certstore.index import Index
from tests.support.certified_keys import NAMES, NOW, certified_key


def situation(*held: CertifiedKey, default_name: str | None = None, made: CertifiedKey | None = None) -> Situation:
    return Situation(index(held), "kerio", default_name, made, lambda: NOW)


def index(held: Iterable[CertifiedKey]) -> Index:
    found = Index()
    for _ in found.apply(held):
        pass
    return found


EXACT = certified_key("exact", "www.example.com", trusted=True)
WILD = certified_key("wild", "*.example.com", "example.com", self_signed=True)
MADE = certified_key("made", "localhost", self_signed=True)


def shown(*changes: Handover) -> list[tuple[str, str | None, str | None]]:
    names = {one.fingerprint: label for label, one in (("exact", EXACT), ("wild", WILD), ("made", MADE))}
    return [
        (
            one.name,
            names[one.before.certificate.fingerprint] if one.before else None,
            names[one.after.certificate.fingerprint] if one.after else None,
        )
        for one in changes
    ]


def test_what_comes_takes_over_the_names_that_it_is_better_for() -> None:
    assert shown(*handovers(situation(WILD), put=[EXACT])) == [("www.example.com", "wild", "exact")]
    assert shown(*handovers(situation(EXACT), put=[WILD])) == [
        ("*.example.com", None, "wild"),
        ("example.com", None, "wild"),
    ]


def test_what_goes_leaves_its_names_to_others_or_to_the_default() -> None:
    assert shown(*handovers(situation(EXACT, WILD), retire=[EXACT.fingerprint])) == [
        ("www.example.com", "exact", "wild")
    ]
    assert shown(*handovers(situation(EXACT, made=MADE), retire=[EXACT.fingerprint])) == [
        ("www.example.com", "exact", "made")
    ]
    assert shown(*handovers(situation(EXACT), retire=[EXACT.fingerprint])) == [("www.example.com", "exact", None)]


def test_another_default_changes_what_everybody_else_gets() -> None:
    now = situation(EXACT, made=MADE)
    assert shown(*handovers(now, default_name="www.example.com")) == [("", "made", "exact")]
    was = situation(EXACT, default_name="www.example.com", made=MADE)
    assert ("", "exact", "made") in shown(*handovers(was, retire=[EXACT.fingerprint]))


def test_addresses_change_hands_too() -> None:
    address = certified_key("exact", addresses=("192.0.2.1",))
    (change,) = handovers(situation(made=MADE), put=[address])
    assert change.name == "192.0.2.1"


def test_nothing_that_is_there_already_or_unknown_changes_anything() -> None:
    now = situation(EXACT, WILD)
    assert handovers(now, put=[EXACT], retire=["ff"]) == []
    assert len(now.index) == 2


keys_ = st.builds(
    lambda label, names, trusted: certified_key(label, *names, trusted=trusted),
    st.sampled_from("abcdef"),
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.booleans(),
)


@given(st.lists(keys_, max_size=4), keys_)
@settings(deadline=None)
def test_what_is_foretold_is_what_happens(held: list[CertifiedKey], comes: CertifiedKey) -> None:
    now = situation(*held, made=MADE)
    then = situation(*(one for one in held if one.fingerprint != comes.fingerprint), comes, made=MADE).selector()
    before = now.selector()
    foretold = {one.name: one.after for one in handovers(now, put=[comes])}
    for name in comes.names:
        after = then.select(name)
        assert after is not None
        was = before.select(name)
        if was is None or was.certificate.fingerprint != after.certificate.fingerprint:
            assert foretold[name] == after
        else:
            assert name not in foretold
