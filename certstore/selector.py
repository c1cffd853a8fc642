"""Which certificate a client is shown, and why.

A ranking is cached per name that certificates carry, never per name that a client asks for: a stranger who invents
host names under a wildcard adds nothing to the cache, since they all share the wildcard's ranking. A cached ranking
holds until the next notBefore or notAfter of its candidates or their chains, so the clock alone re-ranks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.key_types import KeyTypes, of_key_type
from certstore.names import wildcard_of
from certstore.ranking import Level, Order, level, next_change, rank, reason

ALL = int(KeyTypes.ALL)


class Selection(NamedTuple):
    """One candidate in its place: the certificate, its level now, the name it matched by, and who can use it."""

    certificate: CertifiedKey
    level: Level
    matched: str  # the exact name, the wildcard or the address; "" for the certificate made at first start
    usable_by: int  # KeyTypes as a plain number: the enum's own "&" costs a microsecond


class Candidate(NamedTuple):
    """A selection with its reason in words, for people."""

    selection: Selection
    reason: str


class _Ranking(NamedTuple):
    """What the clock says about some candidates; true from `since` until `until` (Unix seconds)."""

    selections: tuple[Selection, ...]
    since: float
    until: float


class Selector:
    """Ranks the certificates of an index for host names, in one of the two orders.

    `clock` gives Unix seconds. Call `forget` after each change of the index, and `set_default` when the default
    certificate's host name or the certificate made at first start changes.
    """

    def __init__(self, index: Index, order: Order = "kerio", clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._order: Order = order
        self._clock = clock
        self._rankings: dict[str, _Ranking] = {}
        self._disregarded: set[str] = set()
        self._default_name: str | None = None
        self._made: CertifiedKey | None = None

    def set_default(self, name: str | None, made: CertifiedKey | None) -> None:
        """Say which host name's certificate is the default, and which one was made at first start (the last resort)."""
        self._default_name, self._made = name, made
        self.forget()

    def forget(self) -> None:
        """Drop every cached ranking."""
        self._rankings.clear()

    def disregard(self, fingerprint: str) -> None:
        """Leave out a certificate that turned out to be unusable here, until its fingerprint is `regard`ed again."""
        self._disregarded.add(fingerprint)
        self.forget()

    def regard(self, fingerprints: Iterable[str]) -> None:
        """Consider these again: they were replaced."""
        self._disregarded.difference_update(fingerprints)

    def select(
        self,
        host: str | None,
        usable: int = ALL,
        local_address: str | None = None,
        *,
        strict: bool = False,
    ) -> Selection | None:
        """The certificate for `host` (canonical name; None without SNI), for a client that can use `usable` key types.

        `local_address` is the address the client connected to, matched against IP SANs when there is no SNI. With
        `strict` the default certificate is not considered. None when nothing is left to choose from. When the client
        can use none of the candidates, the best one is returned: the handshake then says truthfully what failed.
        """
        now = self._clock()
        key = self._key(host, local_address)
        first: Selection | None = None
        if key is not None:
            for selection in self._ranking(key, now).selections:
                if selection.usable_by & usable:
                    return selection
                first = first or selection
        if strict:
            return first
        for selection in self._default(now).selections:
            if selection.usable_by & usable:
                return selection
            first = first or selection
        return first

    def explain(self, host: str | None, local_address: str | None = None) -> list[Candidate]:
        """Every candidate for `host`, best first, with its level and the reason for it; the default ones at the end."""
        now = self._clock()
        key = self._key(host, local_address)
        ranked = self._ranking(key, now).selections if key is not None else ()
        return [
            *(Candidate(one, f"matches {one.matched}; {reason(one.certificate, now)}") for one in ranked),
            *(Candidate(one, self._why_default(one, now)) for one in self._default(now).selections),
        ]

    def _key(self, host: str | None, local_address: str | None) -> str | None:
        """The index key whose ranking serves this client: its exact name, else its wildcard, else nothing."""
        if host is None:
            if local_address is not None and self._index.addressed(local_address):
                return f"ip:{local_address}"
            return None
        if self._index.named(host):
            return host
        wildcard = wildcard_of(host)
        return wildcard if wildcard is not None and self._index.named(wildcard) else None

    def _ranking(self, key: str, now: float) -> _Ranking:
        ranking = self._rankings.get(key)
        if ranking is None or not ranking.since <= now < ranking.until:
            ranking = self._rank(tuple(self._candidates(key)), now)
            self._rankings[key] = ranking
        return ranking

    def _candidates(self, key: str) -> Iterator[tuple[CertifiedKey, str]]:
        if key.startswith("ip:"):
            address = key.removeprefix("ip:")
            yield from ((one, address) for one in self._index.addressed(address))
            return
        exact = self._index.named(key)
        yield from ((one, key) for one in exact)
        if key.startswith("*."):
            return
        wildcard = wildcard_of(key)
        if wildcard is None:
            return
        carried = {one.fingerprint for one in exact}
        yield from ((one, wildcard) for one in self._index.named(wildcard) if one.fingerprint not in carried)

    def _rank(self, candidates: tuple[tuple[CertifiedKey, str], ...], now: float) -> _Ranking:
        usable = [pair for pair in candidates if pair[0].fingerprint not in self._disregarded]
        ordered = sorted(usable, key=lambda pair: rank(pair[0], pair[1].startswith("*."), now, self._order))
        return _Ranking(
            tuple(
                Selection(one, level(one, matched.startswith("*."), now), matched, int(of_key_type(one.key_type)))
                for one, matched in ordered
            ),
            since=now,
            until=next_change((one for one, _ in candidates), now),
        )

    def _default(self, now: float) -> _Ranking:
        ranking = self._rankings.get("")
        if ranking is not None and ranking.since <= now < ranking.until:
            return ranking
        chosen: tuple[Selection, ...] = ()
        until = math.inf
        key = self._key(self._default_name, None)
        if key is not None:
            named = self._ranking(key, now)
            chosen, until = tuple(one._replace(level=Level.DEFAULT) for one in named.selections), named.until
        if self._made is not None and self._made.fingerprint not in self._disregarded:
            chosen += (Selection(self._made, Level.DEFAULT, "", int(of_key_type(self._made.key_type))),)
        ranking = self._rankings[""] = _Ranking(chosen, now, until)
        return ranking

    def _why_default(self, selection: Selection, now: float) -> str:
        whose = f"default = {self._default_name}" if selection.matched else "made at first start"
        return f"the default certificate ({whose}); {reason(selection.certificate, now)}"
