"""Issuers known from all files, and the chain to send when no trusted one exists.

A client's own verifier may know a root that the trust store does not, so a leaf without a trusted chain is still sent
with whatever issuers can be found, in the order of RFC 8446 section 4.4.2: each certifies the one before it, and the
self-signed root is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from certstore.certificate import Certificate, is_issued_by, parse

MAX_CANDIDATES = 16  # a pool full of same-named CAs must not make every chain slow
MAX_SAME_KEY = 4  # of certificates with one name and one key: cross-certificates and renewals
MAX_REMEMBERED = 200_000  # signatures
MAX_CHAIN_BYTES = 64 << 10  # with the leaf, about what clients take; each certificate's own copy goes to each worker

Issuers = Callable[[Certificate], tuple[Certificate, ...]]


class IssuerPool:
    """Certificates that may be issuers, by subject name. Self-signed ones are never sent and are left out.

    A name is not enough where many share it: whoever can write one file can put any number of CA certificates with
    the name of another's issuer into it. Then signatures decide, those of issuers below a trusted root first, which
    nobody can make up.
    """

    def __init__(self) -> None:
        self._by_subject: dict[bytes, tuple[Certificate, ...]] = {}
        self._rooted: set[str] = set()  # fingerprints of those whose chain of signatures leads to a root
        self._signers: set[bytes] = set()  # public keys (SPKI hashes) found to have signed something
        self._signed: dict[tuple[str, bytes], bool] = {}  # by certificate and possible issuer's key

    def replace(self, certificates: Iterable[Certificate], roots: Iterable[Certificate] = ()) -> None:
        """Let these be all that is known. The order given does not matter."""
        found: dict[bytes, dict[str, Certificate]] = {}
        for one in certificates:
            if not one.self_signed:
                found.setdefault(one.subject, {})[one.fingerprint] = one
        self._by_subject = {subject: _latest_first(known.values()) for subject, known in found.items()}
        self._rooted = self._below(roots)

    def candidates(self, leaf: Certificate, own: Sequence[Certificate]) -> tuple[Certificate, ...]:
        """Who may stand between `leaf` and a root: its issuers by name, their issuers, and so on.

        `own` are the other certificates of the leaf's file; of several with one name they come first, then those that
        end last. At most MAX_CANDIDATES, each once, nearest first. Where more have the names, only those count whose
        key signed the certificate below.
        """
        if leaf.self_signed:
            return ()
        own_by_subject: dict[bytes, list[Certificate]] = {}
        for one in own:
            if not one.self_signed:
                own_by_subject.setdefault(one.subject, []).append(one)

        def named(below: Certificate) -> tuple[Certificate, ...]:
            return (
                *_latest_first(own_by_subject.get(below.issuer, ())),
                *self._by_subject.get(below.issuer, ()),
            )

        found = _closure(leaf, named)
        return found if len(found) <= MAX_CANDIDATES else self._signing(leaf, named)

    def rooted(self, candidates: Iterable[Certificate]) -> tuple[Certificate, ...]:
        """Those that a chain to a root can be made of: signatures lead from a root to them."""
        return tuple(one for one in candidates if one.fingerprint in self._rooted)

    def _signing(self, leaf: Certificate, named: Issuers) -> tuple[Certificate, ...]:
        """Of those with the right names the ones whose keys signed; one key at most has signed a certificate."""

        def signing(below: Certificate) -> tuple[Certificate, ...]:
            by_key: dict[bytes, list[Certificate]] = {}
            for one in sorted(named(below), key=lambda one: one.fingerprint not in self._rooted):
                by_key.setdefault(one.spki, []).append(one)
            keys = sorted(
                by_key, key=lambda key: (by_key[key][0].fingerprint not in self._rooted, key not in self._signers)
            )
            for key in keys[:MAX_CANDIDATES]:
                if self._has_signed(by_key[key][0], below):
                    self._signers.add(key)
                    return tuple(by_key[key][:MAX_SAME_KEY])
            return ()

        return _closure(leaf, signing)[:MAX_CANDIDATES]

    def _below(self, roots: Iterable[Certificate]) -> set[str]:
        """Fingerprints of what the roots have signed, what that has signed, and so on."""
        issued: dict[bytes, list[Certificate]] = {}
        for one in (one for known in self._by_subject.values() for one in known):
            issued.setdefault(one.issuer, []).append(one)
        found: set[str] = set()
        seen: set[tuple[bytes, bytes]] = set()
        above = deque(roots)
        while above:
            issuer = above.popleft()
            if issuer.subject not in issued or (issuer.subject, issuer.spki) in seen:
                continue
            seen.add((issuer.subject, issuer.spki))
            for one in issued[issuer.subject]:
                if one.fingerprint not in found and self._has_signed(issuer, one):
                    found.add(one.fingerprint)
                    above.append(one)
        return found

    def _has_signed(self, issuer: Certificate, below: Certificate) -> bool:
        """Whether the issuer's key signed the certificate below; looked at once."""
        pair = (below.fingerprint, issuer.spki)
        known = self._signed.get(pair)
        if known is None:
            if len(self._signed) >= MAX_REMEMBERED:
                self._signed.clear()
                self._signers.clear()
            known = self._signed[pair] = is_issued_by(parse(below), parse(issuer))
        return known


def _closure(leaf: Certificate, issuers: Issuers) -> tuple[Certificate, ...]:
    """The leaf's issuers, their issuers, and so on, nearest first; at most one more than MAX_CANDIDATES."""
    found: dict[str, Certificate] = {}
    wanted = deque([leaf])
    while wanted:
        for one in issuers(wanted.popleft()):
            if one.fingerprint in found or one.fingerprint == leaf.fingerprint:
                continue
            found[one.fingerprint] = one
            wanted.append(one)
            if len(found) > MAX_CANDIDATES:
                return tuple(found.values())
    return tuple(found.values())


def build_chain(leaf: Certificate, candidates: Sequence[Certificate]) -> tuple[bytes, ...]:
    """The DER of the leaf's issuers in sending order, without leaf and root, as far as candidates go.

    Of several candidates for a link the first whose key signed it is taken. Dates are not looked at.
    """
    chain: list[bytes] = []
    left = {one.fingerprint: one for one in candidates if not one.self_signed}
    left.pop(leaf.fingerprint, None)
    current = leaf
    while not current.self_signed:
        issuer = _issuer_of(current, left.values())
        if issuer is None:
            break
        del left[issuer.fingerprint]
        chain.append(issuer.der)
        current = issuer
    return sendable(chain)


def sendable(chain: Iterable[bytes]) -> tuple[bytes, ...]:
    """The chain as far as it is worth sending: at most MAX_CANDIDATES links of MAX_CHAIN_BYTES together."""
    links: list[bytes] = []
    left = MAX_CHAIN_BYTES
    for link in chain:
        left -= len(link)
        if left < 0 or len(links) == MAX_CANDIDATES:
            break
        links.append(link)
    return tuple(links)


def _issuer_of(certificate: Certificate, candidates: Iterable[Certificate]) -> Certificate | None:
    named = [one for one in candidates if one.subject == certificate.issuer]
    if not named:
        return None
    parsed = parse(certificate)
    return next((one for one in named if is_issued_by(parsed, parse(one))), None)


def _latest_first(certificates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    return tuple(sorted(certificates, key=lambda one: (-one.not_after, one.fingerprint)))
