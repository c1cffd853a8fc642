from __future__ import annotations

import time

import pytest
from cryptography import x509

from certstore.certificate import Certificate, is_issued_by
from certstore.chain import MAX_CANDIDATES, IssuerPool, build_chain
from certstore.load import parse_file
from certstore.trust import TrustStore
from tests.support.pki import DAY, Authority, Key, Pair, new_key, self_signed


def parsed(pair: Pair) -> list[Certificate]:
    return list(parse_file(pair.fullchain_pem).certificates)


def authority(one: Authority) -> Certificate:
    return parse_file(one.pem).certificates[0]


def pool_of(*certificates: Certificate) -> IssuerPool:
    pool = IssuerPool()
    pool.replace(certificates)
    return pool


def three_deep() -> tuple[Authority, Pair]:
    root = Authority.make()
    lower = Authority.make("Lower", Authority.make("Upper", root))
    return root, lower.issue("www.example.com")


def test_a_chain_is_sent_in_order_whatever_order_the_file_has() -> None:
    root, pair = three_deep()
    leaf, lower, upper = parsed(pair)
    for own in ([upper, lower], [lower, upper], [authority(root), upper, leaf, lower]):
        assert build_chain(leaf, pool_of().candidates(leaf, own)) == pair.chain_der


def test_intermediates_missing_from_the_file_are_found_among_the_others() -> None:
    root, pair = three_deep()
    leaf, lower, upper = parsed(pair)
    pool = pool_of(leaf, upper, lower, authority(root))
    assert build_chain(leaf, pool.candidates(leaf, [])) == pair.chain_der
    assert build_chain(leaf, pool.candidates(leaf, [lower])) == pair.chain_der


def test_roots_and_unrelated_certificates_are_not_sent() -> None:
    root, pair = three_deep()
    _, other = three_deep()
    leaf, lower, _ = parsed(pair)
    stranger = Authority.make("Stranger", root)
    candidates = pool_of(authority(root), authority(stranger)).candidates(leaf, [lower])
    assert [one.fingerprint for one in candidates] == [lower.fingerprint]
    assert build_chain(leaf, (authority(root), authority(stranger), *parsed(other)[1:])) == ()
    assert build_chain(leaf, (lower, authority(root))) == (lower.der,)


def test_an_issuer_of_the_right_name_with_another_key_is_passed_over() -> None:
    root, pair = three_deep()
    leaf, lower, upper = parsed(pair)
    impostor = authority(Authority.make("Lower", root, not_after=9000 * DAY))
    candidates = pool_of(impostor, lower, upper).candidates(leaf, [])
    assert candidates[0] == impostor
    assert build_chain(leaf, candidates) == pair.chain_der


def test_own_issuers_come_first_then_those_that_end_last_in_any_load_order() -> None:
    root = Authority.make()
    key = new_key()
    short, middle, long = (Authority.make("Issuing", root, key=key, not_after=days * DAY) for days in (10, 20, 30))
    leaf = parsed(long.issue("www.example.com"))[0]
    known = [authority(one) for one in (middle, long, short)]
    expected = (authority(short), authority(long), authority(middle))
    assert pool_of(*known).candidates(leaf, [authority(short)]) == expected
    assert pool_of(*known[::-1]).candidates(leaf, [authority(short)]) == expected
    assert build_chain(leaf, expected) == (short.der,)


def test_cross_certificates_that_sign_each_other_end() -> None:
    one, two = new_key(), new_key()
    root_one, root_two = Authority.make("One", key=one), Authority.make("Two", key=two)
    one_by_two = Authority.make("One", root_two, key=one)
    two_by_one = Authority.make("Two", root_one, key=two)
    leaf = parsed(one_by_two.issue("www.example.com"))[0]
    candidates = pool_of(authority(one_by_two), authority(two_by_one)).candidates(leaf, [])
    assert len(candidates) == 2
    assert build_chain(leaf, candidates) == (one_by_two.der, two_by_one.der)


def test_a_pool_full_of_one_name_is_capped() -> None:
    root = Authority.make()
    crowd = [Authority.make("Crowd", root) for _ in range(MAX_CANDIDATES + 4)]
    leaf, own = parsed(crowd[0].issue("www.example.com"))
    candidates = pool_of(*map(authority, crowd)).candidates(leaf, [own])
    assert candidates == (own,)
    assert build_chain(leaf, candidates) == (own.der,)


def crowd(name: str, count: int, *, key: Key | None = None) -> list[Certificate]:
    """CA certificates with a name, later ends than any other's, and keys of their own unless one is given."""
    nobody = Authority.make("Nobody")
    return [authority(Authority.make(name, nobody, not_after=9000 * DAY, key=key)) for _ in range(count)]


@pytest.mark.parametrize("theirs", [False, True])
def test_a_crowd_with_an_issuers_name_does_not_displace_a_trusted_chain(theirs: bool) -> None:
    """Other keys than the issuer's, or (`theirs`) its own public key, which is no secret."""
    root = Authority.make()
    upper = Authority.make("Upper", root)
    lower = Authority.make("Lower", upper)
    leaf = parsed(lower.issue("www.example.com"))[0]
    junk = [
        *crowd("Lower", 2 * MAX_CANDIDATES, key=lower.key if theirs else None),
        *crowd("Upper", 2 * MAX_CANDIDATES, key=upper.key if theirs else None),
    ]
    pool = IssuerPool()
    pool.replace([*junk, authority(lower), authority(upper)], [authority(root)])
    for own in ((), junk, junk[::-1]):
        candidates = pool.candidates(leaf, own)
        assert len(candidates) <= MAX_CANDIDATES
        assert {authority(lower), authority(upper)} <= set(candidates)
        verdict = TrustStore([authority(root)]).verify(leaf, candidates, time.time())
        assert verdict is not None
        assert verdict.chain == (lower.der, upper.der)


def test_a_crowd_that_comes_later_does_not_displace_a_chain_to_a_root_that_is_not_known() -> None:
    _, pair = three_deep()
    leaf, lower, upper = parsed(pair)
    pool = pool_of(lower, upper, *crowd("Lower", MAX_CANDIDATES - 1), *crowd("Upper", MAX_CANDIDATES - 1))
    assert build_chain(leaf, pool.candidates(leaf, ())) == pair.chain_der
    pool.replace([lower, upper, *crowd("Lower", 3 * MAX_CANDIDATES), *crowd("Upper", 3 * MAX_CANDIDATES)])
    assert build_chain(leaf, pool.candidates(leaf, ())) == pair.chain_der


def test_a_signature_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Authority.make()
    issuing = Authority.make("Lower", root)
    leaves = [parsed(issuing.issue(f"{number}.example"))[0] for number in range(5)]
    known = [authority(issuing), *crowd("Lower", 3 * MAX_CANDIDATES)]
    looked: list[tuple[bytes, bytes]] = []

    def look(below: x509.Certificate, issuer: x509.Certificate) -> bool:
        looked.append((below.signature, issuer.signature))
        return is_issued_by(below, issuer)

    monkeypatch.setattr("certstore.chain.is_issued_by", look)
    pool = IssuerPool()
    for _ in range(3):
        pool.replace(known, [authority(root)])
        for leaf in leaves:
            assert pool.candidates(leaf, ()) == (authority(issuing),)
    assert len(looked) == len(set(looked)) <= len(leaves) + 1 + MAX_CANDIDATES


def test_a_self_signed_leaf_is_sent_alone() -> None:
    leaf = parsed(self_signed("www.example.com"))[0]
    assert pool_of(leaf).candidates(leaf, [leaf]) == ()
    assert build_chain(leaf, [leaf]) == ()


def test_replacing_the_pool_forgets_what_it_knew() -> None:
    _, pair = three_deep()
    leaf, lower, upper = parsed(pair)
    pool = pool_of(lower, upper)
    pool.replace([upper])
    assert pool.candidates(leaf, []) == ()
