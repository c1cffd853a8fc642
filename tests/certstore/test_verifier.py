from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

import pytest

from certstore.certificate import read_certificate
from certstore.inventory import Pair
from certstore.load import parse_file
from certstore.trust import TrustStore
from certstore.verifier import Verifier
from tests.support.pki import Authority, self_signed
from tests.support.pki import Pair as Issued

ROOT = Authority.make("Root")
LOWER = Authority.make("Lower", ROOT)
NOW = time.time()


def pair(issued: Issued) -> Pair:
    """What the inventory makes of a file with the pair and its chain."""
    content = parse_file(issued.combined_pem)
    leaf, *others = content.certificates
    return Pair(leaf, content.keys[0], tuple(others), ("file",), ("file",))


class Place:
    """A verifier that knows an intermediate, and its pairs."""

    def __init__(self, *roots: Authority, issuer: Authority = LOWER) -> None:
        self.trust = TrustStore([read_certificate(one.der) for one in roots])
        self.issuers = [read_certificate(issuer.der)]
        self.verifier = Verifier(self.trust)
        self.verifier.replace(self.issuers, self.trust)
        self.pairs: dict[str, Pair] = {}

    def put(self, *issued: Issued) -> None:
        self.pairs.update((one.fingerprint, pair(one)) for one in issued)
        self.verifier.take_in([one.fingerprint for one in issued], self.pairs)

    def remove(self, issued: Issued) -> None:
        del self.pairs[issued.fingerprint]
        self.verifier.take_in([issued.fingerprint], self.pairs)

    def verify(self, at_most: int | None = None, now: float = NOW) -> set[str]:
        return self.verifier.verify(self.pairs, now, at_most)

    def is_trusted(self, issued: Issued) -> bool:
        return self.verifier.judgement(issued.fingerprint).trusted_until > 0


def test_a_chain_is_verified_once_and_no_more_until_something_changes() -> None:
    place, one = Place(ROOT), LOWER.issue("www.example.com")
    place.put(one)
    assert place.verifier.unverified == 0, "until it is known what it rests on"
    assert place.verify() == {one.fingerprint}
    assert place.is_trusted(one)
    assert place.verifier.judgement(one.fingerprint).chain == one.chain_der
    assert place.verify() == set()


def test_rivals_are_verified_at_once_and_others_in_portions() -> None:
    place = Place(ROOT)
    rivals = [LOWER.issue("rival.example.com") for _ in range(2)]
    others = [LOWER.issue(f"host{number}.example.com") for number in range(5)]
    place.put(*others, *rivals)
    first = place.verify(at_most=2)
    assert {one.fingerprint for one in rivals} <= first
    assert len(first) == 4
    assert place.verifier.unverified == 3
    assert len(place.verify(at_most=2)) == 2
    assert len(place.verify(at_most=None)) == 1
    assert place.verifier.unverified == 0


def test_other_roots_are_looked_at_again() -> None:
    place, one = Place(), LOWER.issue("www.example.com")
    place.put(one)
    place.verify()
    assert not place.is_trusted(one)
    place.verifier.replace(place.issuers, TrustStore([read_certificate(ROOT.der)]))
    assert place.verify() == {one.fingerprint}
    assert place.is_trusted(one)


def test_an_intermediate_that_comes_later_completes_the_chain() -> None:
    place, one = Place(ROOT), LOWER.issue("www.example.com")
    place.verifier.replace([], place.trust)
    alone = Pair(read_certificate(one.der), parse_file(one.key_pem).keys[0], (), ("file",), ("file",))
    place.pairs[one.fingerprint] = alone
    place.verifier.take_in([one.fingerprint], place.pairs)
    place.verify()
    assert not place.is_trusted(one)
    place.verifier.replace(place.issuers, place.trust)
    place.verify()
    assert place.is_trusted(one)


def test_the_clock_calls_for_another_look() -> None:
    soon = datetime.fromtimestamp(NOW, UTC) + timedelta(hours=1)
    short = Authority.make("Short", ROOT, not_after=soon)
    place, one = Place(ROOT, issuer=short), short.issue("www.example.com")
    place.put(one)
    place.verify()
    assert place.verifier.again_at == pytest.approx(soon.timestamp(), abs=1)
    place.verify(now=soon.timestamp() + 1)
    assert not place.is_trusted(one) or place.verifier.judgement(one.fingerprint).trusted_until <= soon.timestamp()
    assert place.verifier.again_at == math.inf


def test_what_is_gone_is_forgotten() -> None:
    place, one, other = Place(ROOT), LOWER.issue("a.example.com"), LOWER.issue("b.example.com")
    place.put(one, other)
    place.remove(one)
    assert place.verify() == {other.fingerprint}
    with pytest.raises(KeyError):
        place.verifier.judgement(one.fingerprint)


def test_a_certificate_that_a_library_chokes_on_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    place, good, bad = Place(ROOT), LOWER.issue("good.example.com"), self_signed("bad.example.com")
    place.put(good, bad)
    best = TrustStore.best_verdict

    def choke(self: TrustStore, leaf: object, *rest: object) -> object:
        if getattr(leaf, "fingerprint", "") == bad.fingerprint:
            raise BaseException("panic")
        return best(self, leaf, *rest)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(TrustStore, "best_verdict", choke)
    place.verify()
    assert place.is_trusted(good)
    assert not place.is_trusted(bad)
