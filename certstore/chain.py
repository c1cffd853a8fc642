"""Issuers known from all files, and the chain to send when no trusted one exists.

A client's own verifier may know a root that the trust store does not, so a leaf without a trusted chain is still sent
with whatever issuers can be found, in the order of RFC 8446 section 4.4.2: each certifies the one before it, and the
self-signed root is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from certstore.certificate import Certificate, is_issued_by, parse

MAX_CANDIDATES = 16  # a pool full of same-named CAs must not make every chain slow
MAX_CHAIN_BYTES = 64 << 10  # with the leaf, about what clients take; each certificate's own copy goes to each worker


class IssuerPool:
    """Certificates that may be issuers, by subject name. Self-signed ones are never sent and are left out."""

    def __init__(self) -> None:
        self._by_subject: dict[bytes, tuple[Certificate, ...]] = {}

    def replace(self, certificates: Iterable[Certificate]) -> None:
        """Let these be all that is known. The order given does not matter."""
        found: dict[bytes, dict[str, Certificate]] = {}
        for one in certificates:
            if not one.self_signed:
                found.setdefault(one.subject, {})[one.fingerprint] = one
        self._by_subject = {subject: _latest_first(known.values()) for subject, known in found.items()}

    def candidates(self, leaf: Certificate, own: Sequence[Certificate]) -> tuple[Certificate, ...]:
        """Who may stand between `leaf` and a root: its issuers by name, their issuers, and so on.

        `own` are the other certificates of the leaf's file; of several with one name they come first, then those that
        end last. At most MAX_CANDIDATES, each once, nearest first; no signature is looked at.
        """
        if leaf.self_signed:
            return ()
        own_by_subject: dict[bytes, list[Certificate]] = {}
        for one in own:
            if not one.self_signed:
                own_by_subject.setdefault(one.subject, []).append(one)
        found: dict[str, Certificate] = {}
        seen_names: set[bytes] = set()
        wanted = deque([leaf.issuer])
        while wanted:
            name = wanted.popleft()
            if name in seen_names:
                continue
            seen_names.add(name)
            for one in (*_latest_first(own_by_subject.get(name, ())), *self._by_subject.get(name, ())):
                if one.fingerprint in found or one.fingerprint == leaf.fingerprint:
                    continue
                if len(found) == MAX_CANDIDATES:
                    return tuple(found.values())
                found[one.fingerprint] = one
                wanted.append(one.issuer)
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
