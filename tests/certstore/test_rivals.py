"""Certificates that share a name, exactly or through a wildcard, against a comparison of each with each."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from certstore.certificate import Certificate, read_certificate
from certstore.names import wildcard_of
from certstore.rivals import Rivals
from tests.support.pki import self_signed

PLAIN = read_certificate(self_signed("www.example.com").der)
NAMES = ["example.com", "www.example.com", "mail.example.com", "*.example.com", "www.example.org", "*.example.org"]


def certificate(names: frozenset[str], addresses: frozenset[str]) -> Certificate:
    return msgspec.structs.replace(PLAIN, names=tuple(sorted(names)), addresses=tuple(sorted(addresses)))


certificates = st.builds(
    certificate, st.frozensets(st.sampled_from(NAMES), max_size=3), st.frozensets(st.sampled_from(["192.0.2.1"]))
)


def share(one: Certificate, other: Certificate) -> bool:
    ours, theirs = {*one.names, *one.addresses}, {*other.names, *other.addresses}
    return bool(ours & theirs) or covers(one, other) or covers(other, one)


def covers(one: Certificate, other: Certificate) -> bool:
    return any(wildcard_of(name) in one.names for name in other.names if not name.startswith("*."))


@given(st.lists(st.tuples(certificates, st.booleans()), max_size=6))
def test_rivals_are_those_that_share_a_name_with_another_that_is_still_there(
    all_of_them: list[tuple[Certificate, bool]],
) -> None:
    rivals = Rivals()
    for one, _ in all_of_them:
        rivals.add(one)
    for one, stays in all_of_them:
        if not stays:
            rivals.discard(one)
    left = [one for one, stays in all_of_them if stays]
    for place, one in enumerate(left):
        others = left[:place] + left[place + 1 :]
        assert rivals.has(one) == (any(share(one, other) for other in others) or covers(one, one))
