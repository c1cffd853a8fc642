from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certstore.certified_key import CertifiedKey
from certstore.index import SLICE, Index
from tests.support.certified_keys import NAMES, certified_key, certified_keys


def index_of(*certificates: CertifiedKey) -> Index:
    index = Index()
    apply(index, certificates)
    return index


def apply(index: Index, put: tuple[CertifiedKey, ...] = (), retire: tuple[str, ...] = ()) -> int:
    return sum(1 for _ in index.apply(put, retire))


def test_a_certificate_is_found_by_each_of_its_names_and_addresses() -> None:
    one = certified_key("a", "example.com", "*.example.com", addresses=["192.0.2.1", "2001:db8::1"])
    index = index_of(one)
    assert index.named("example.com") == index.named("*.example.com") == (one,)
    assert index.addressed("192.0.2.1") == index.addressed("2001:db8::1") == (one,)
    assert sorted(index.names) == ["*.example.com", "example.com"]
    assert list(index) == [one]
    assert len(index) == 1


def test_a_name_is_not_an_address_and_a_wildcard_is_not_the_names_under_it() -> None:
    index = index_of(certified_key("a", "*.example.com", addresses=["192.0.2.1"]))
    assert index.named("www.example.com") == ()
    assert index.named("192.0.2.1") == ()
    assert index.addressed("*.example.com") == ()


def test_a_renewal_with_other_names_leaves_none_of_the_old_ones_behind() -> None:
    old = certified_key("a", "old.example.com", "both.example.com")
    new = certified_key("a", "new.example.com", "both.example.com")
    index = index_of(old)
    apply(index, (new,))
    assert index.named("old.example.com") == ()
    assert index.named("both.example.com") == index.named("new.example.com") == (new,)
    assert index.certificates == {new.fingerprint: new}


def test_retiring_takes_only_what_is_named_and_passes_over_what_is_unknown() -> None:
    one, other = certified_key("a", "example.com"), certified_key("b", "example.com")
    index = index_of(one, other)
    apply(index, retire=(one.fingerprint, "unknown"))
    assert index.named("example.com") == (other,)
    apply(index, retire=(other.fingerprint,))
    assert not list(index.names)
    assert len(index) == 0


def test_a_large_change_is_applied_in_slices_and_each_name_is_wholly_old_or_wholly_new() -> None:
    names = [f"host{number}.example.com" for number in range(2 * SLICE + 1)]
    old, new = certified_key("old", *names), certified_key("new", *names)
    index = index_of(old)
    slices = []
    for replaced in index.apply([new], [old.fingerprint]):
        slices.append(len(replaced))
        assert {index.named(name) for name in names} <= {(old,), (new,)}
    assert [size for size in slices if size] == [SLICE, SLICE, 1]
    assert {index.named(name) for name in names} == {(new,)}


def test_a_host_that_moves_from_one_name_to_another_is_covered_all_the_while() -> None:
    """By an exact name before and a wildcard after, or the other way round; in a change of several slices."""
    hosts = [f"www.site{number}.example.com" for number in range(SLICE + 1)]
    wildcards = [f"*.site{number}.example.com" for number in range(SLICE + 1)]
    exact, wildcard = certified_key("exact", *hosts), certified_key("wildcard", *wildcards)
    for old, new in ((exact, wildcard), (wildcard, exact)):
        index = index_of(old)
        for _ in index.apply([new], [old.fingerprint]):
            covered = [index.named(host) or index.named(over) for host, over in zip(hosts, wildcards, strict=True)]
            assert all(covered)
        assert list(index) == [new]


@given(st.lists(st.tuples(st.lists(certified_keys(), max_size=3), st.sets(st.integers(0, 9), max_size=3)), max_size=6))
def test_after_any_changes_the_index_is_what_a_plain_dictionary_says(
    changes: list[tuple[list[CertifiedKey], set[int]]],
) -> None:
    index, expected = Index(), dict[str, CertifiedKey]()
    for put, numbers in changes:
        retire = [certified_key(str(number)).fingerprint for number in numbers]
        apply(index, tuple(put), tuple(retire))
        arriving = {one.fingerprint: one for one in put}
        for fingerprint in set(retire) - arriving.keys():
            expected.pop(fingerprint, None)
        expected.update(arriving)
        assert index.certificates == expected
        for name in NAMES:
            held = {one.fingerprint for one in index.named(name)}
            assert held == {one.fingerprint for one in expected.values() if name in one.names}
            assert len(index.named(name)) == len(held)
