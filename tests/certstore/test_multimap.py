from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certstore.multimap import Multimap

entries = st.tuples(st.sampled_from("ab"), st.sampled_from(["1", "2", "3"]))


@given(st.lists(st.tuples(st.booleans(), entries)))
def test_a_multimap_is_a_set_of_values_for_each_key(steps: list[tuple[bool, tuple[str, str]]]) -> None:
    multimap: Multimap[str] = Multimap()
    plain: dict[str, set[str]] = {}
    for adding, (key, value) in steps:
        if adding:
            multimap.add(key, value)
            plain.setdefault(key, set()).add(value)
        else:
            multimap.discard(key, value)
            plain.get(key, set()).discard(value)
        for one in "ab":
            assert multimap.sorted(one) == tuple(sorted(plain.get(one, set())))
            assert multimap.count(one) == len(plain.get(one, set()))
            assert (one in multimap) == bool(plain.get(one))
