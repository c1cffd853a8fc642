"""Which chain each certificate is sent with, and from when until when it is trusted; kept until something changes that.

A chain is verified again only where the certificates that it may use or the roots are others, or where the clock says
so. Certificates that compete for a name come first, since a client is shown the trusted one.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Collection, Hashable, Iterable, Mapping
from itertools import islice
from typing import TypeVar

import msgspec

from certstore.certificate import Certificate
from certstore.chain import IssuerPool, build_chain, sendable
from certstore.errors import ENDINGS
from certstore.inventory import Pair
from certstore.rivals import Rivals
from certstore.trust import TrustStore

log = logging.getLogger("snigate.keeper")
T = TypeVar("T", bound=Hashable)

MAX_SHARED = 10_000  # chains, and what they were made from, that many certificates may have as one object

Basis = tuple[str, ...]  # the roots' version and the fingerprints of what a chain may be made of


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """A leaf's chain, and what it was made from. Both spans are Unix seconds, 0 where no chain verifies."""

    leaf: Certificate
    basis: Basis  # empty: not verified yet
    chain: tuple[bytes, ...]  # DER, in sending order, without leaf and root
    trusted_from: int
    trusted_until: int


class Verifier:
    """Judgements by fingerprint. Whoever calls says which pairs there are, and which of them changed."""

    def __init__(self, trust: TrustStore) -> None:
        self.trust = trust
        self._pool = IssuerPool()
        self._rivals = Rivals()
        self._judged: dict[str, Judgement] = {}
        self._unsure: set[str] = set()  # whose basis may be another
        self._urgent: dict[str, None] = {}  # to be verified: rivals...
        self._backlog: dict[str, None] = {}  # ...and the others
        self._again: list[tuple[float, str]] = []  # a heap: Unix seconds at which a chain wants to be verified again
        self._chains: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._bases: dict[Basis, Basis] = {}

    @property
    def unverified(self) -> int:
        """How many chains are still to be verified."""
        return len(self._urgent) + len(self._backlog)

    @property
    def again_at(self) -> float:
        """Unix seconds at which some chain wants to be verified again."""
        return self._again[0][0] if self._again else math.inf

    def judgement(self, fingerprint: str) -> Judgement:
        """What is known of a certificate that was taken in."""
        return self._judged[fingerprint]

    def replace(self, authorities: Iterable[Certificate], trust: TrustStore) -> None:
        """Let these be the issuers and roots from now on."""
        self.trust = trust
        self._pool.replace(authorities, trust.anchors)
        self._unsure.update(self._judged)

    def take_in(self, changed: Collection[str], pairs: Mapping[str, Pair]) -> None:
        """Learn that these pairs are new, others than before, or gone."""
        for fingerprint in changed:
            pair, known = pairs.get(fingerprint), self._judged.get(fingerprint)
            if pair is None:
                if known is not None:
                    self._forget(known)
                continue
            if known is None:
                leaf = pair.certificate
                chain = sendable(one.der for one in pair.company if one.is_ca and not one.self_signed)
                self._judged[fingerprint] = Judgement(leaf, (), self._same_chain(chain), 0, 0)
                self._rivals.add(leaf)
            self._unsure.add(fingerprint)

    def verify(self, pairs: Mapping[str, Pair], now: float, at_most: int | None) -> set[str]:
        """Verify what needs it: all rivals and `at_most` others (None: all); whose judgement is another now."""
        due = set()
        while self._again and self._again[0][0] <= now:
            due.add(heapq.heappop(self._again)[1])
        self._sort(pairs, due)
        verified = [*self._urgent, *islice(self._backlog, at_most)]
        self._urgent.clear()
        changed = set()
        for fingerprint in verified:
            self._backlog.pop(fingerprint, None)
            found = self._judge(pairs[fingerprint], now)
            if found != self._judged[fingerprint]:
                self._judged[fingerprint] = found
                changed.add(fingerprint)
        return changed

    def _forget(self, known: Judgement) -> None:
        fingerprint = known.leaf.fingerprint
        del self._judged[fingerprint]
        self._rivals.discard(known.leaf)
        self._unsure.discard(fingerprint)
        self._urgent.pop(fingerprint, None)
        self._backlog.pop(fingerprint, None)

    def _sort(self, pairs: Mapping[str, Pair], due: Collection[str]) -> None:
        """Find out what has to be verified among what may be otherwise, or is due, and how urgent that is."""
        unsure = self._unsure.union(due)
        if not unsure:
            return
        self._unsure = set()
        for fingerprint in unsure:
            known = self._judged.get(fingerprint)
            if known is None:
                continue
            if (
                not known.basis
                or fingerprint in due
                or known.basis != self._basis(*self._candidates(pairs[fingerprint]))
            ):
                self._backlog[fingerprint] = None
            else:
                self._backlog.pop(fingerprint, None)
        for fingerprint in [one for one in self._backlog if self._rivals.has(self._judged[one].leaf)]:
            del self._backlog[fingerprint]
            self._urgent[fingerprint] = None

    def _candidates(self, pair: Pair) -> tuple[tuple[Certificate, ...], tuple[Certificate, ...]]:
        """What may stand between a leaf and a root, and those of them that a chain to a root can be made of."""
        candidates = self._pool.candidates(pair.certificate, pair.company)
        return candidates, self._pool.rooted(candidates)

    def _basis(self, candidates: Iterable[Certificate], rooted: Iterable[Certificate]) -> Basis:
        return (self.trust.version, *(one.fingerprint for one in (*candidates, *rooted)))

    def _judge(self, pair: Pair, now: float) -> Judgement:
        leaf = pair.certificate
        candidates, rooted = self._candidates(pair)
        basis = _one_object(self._bases, self._basis(candidates, rooted))
        try:
            verdict, again_at = self.trust.best_verdict(leaf, rooted, now)
            if again_at is not None:
                heapq.heappush(self._again, (again_at, leaf.fingerprint))
            if verdict is None or sendable(verdict.chain) != verdict.chain:
                return Judgement(leaf, basis, self._same_chain(build_chain(leaf, candidates)), 0, 0)
            chain = self._same_chain(verdict.chain)
            return Judgement(leaf, basis, chain, verdict.valid_from, verdict.valid_until)
        except ENDINGS:
            raise
        except BaseException:  # whatever a library makes of hostile bytes costs this certificate its chain, not all
            log.exception("the chain of certificate %s cannot be verified; it counts as not trusted", leaf.fingerprint)
            return Judgement(leaf, basis, (), 0, 0)

    def _same_chain(self, chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return _one_object(self._chains, chain)


def _one_object(known: dict[T, T], value: T) -> T:
    """The object that stands for this value, of a number of them."""
    if len(known) > MAX_SHARED:
        known.clear()
    return known.setdefault(value, value)
