"""Which certificate a client is shown, and why.

A ranking is cached per name that certificates carry, never per name that a client asks for: a stranger who invents
host names under a wildcard adds nothing to the cache, since they all share the wildcard's ranking. A cached ranking
holds until the next notBefore or notAfter of its candidates or their chains, so the clock alone re-ranks, and as long
as the index has the very same candidates, so a change re-ranks what it touches and nothing else. Exact names that were
asked for since the index changed last are found without looking at it.

A listener with a default certificate or pins of its own has a selector of its own over the same index; what it prefers
is part of its rankings, so that choosing costs there what it costs everywhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.key_types import KeyTypes, of_key_type
from certstore.names import wildcard_of
from certstore.preference import NO_PREFERENCE, Preference
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
    exact: tuple[CertifiedKey, ...] = ()  # what it was made from...
    wildcard: str = ""
    covering: tuple[CertifiedKey, ...] = ()  # ...and what the wildcard added


class _Default(NamedTuple):
    """The default certificates' ranking, and the two that it was made from: everybody's default and the listener's."""

    ranking: _Ranking
    named: _Ranking | None
    own: _Ranking | None


class Selector:
    """Ranks the certificates of an index for host names, in one of the two orders.

    `clock` gives Unix seconds; `preference` is for the selector of one listener that has a default or pins of its own.
    Call `forget` with the names that a change of the index replaced, and `set_default` when the default certificate's
    host name or the certificate made at first start changes.
    """

    def __init__(
        self,
        index: Index,
        order: Order = "kerio",
        clock: Callable[[], float] = time.time,
        preference: Preference = NO_PREFERENCE,
    ) -> None:
        self._index = index
        self._order: Order = order
        self._clock = clock
        self._preference = preference
        self._rankings: dict[str, _Ranking] = {}
        self._exact: dict[str, _Ranking] = {}  # those of host names, found to be true of the index at `_revision`
        self._revision = index.revision
        self._default_ranking: _Default | None = None
        self._disregarded: set[str] = set()
        self._default_name: str | None = None
        self._made: CertifiedKey | None = None

    def set_default(self, name: str | None, made: CertifiedKey | None) -> None:
        """Say which host name's certificate is the default, and which one was made at first start (the last resort)."""
        if (name, made) != (self._default_name, self._made):
            self._default_name, self._made = name, made
            self._default_ranking = None

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what is cached for names that may be gone for ever."""
        for key in keys:
            self._rankings.pop(key, None)

    def disregard(self, fingerprint: str) -> None:
        """Leave out a certificate that turned out to be unusable here, until its fingerprint is `regard`ed again."""
        self._disregarded.add(fingerprint)
        self._rank_anew()

    def regard(self, fingerprints: Collection[str]) -> None:
        """Consider these again: they were replaced."""
        if not self._disregarded.isdisjoint(fingerprints):
            self._disregarded.difference_update(fingerprints)
            self._rank_anew()

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
        first: Selection | None = None
        ranking = self._exactly(host, now) if host is not None else None
        if ranking is None and (key := self._key(host, local_address)) is not None:
            ranking = self._ranking(key, now)
            if key == host:
                self._exact[key] = ranking
        if ranking is not None:
            for selection in ranking.selections:
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
        default = self._default(now).selections
        return [
            *(
                Candidate(one, f"{self._why_here(one, ranked)}matches {one.matched}; {reason(one.certificate, now)}")
                for one in ranked
            ),
            *(Candidate(one, self._why_here(one, default) + self._why_default(one, now)) for one in default),
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

    def _rank_anew(self) -> None:
        self._rankings.clear()
        self._exact.clear()
        self._default_ranking = None

    def _exactly(self, host: str, now: float) -> _Ranking | None:
        """The ranking of an exact name that was asked for lately; None where it has to be looked for."""
        if self._revision != self._index.revision:
            self._revision = self._index.revision
            self._exact.clear()
        ranking = self._exact.get(host)
        return ranking if ranking is not None and ranking.since <= now < ranking.until else None

    def _ranking(self, key: str, now: float) -> _Ranking:
        ranking = self._rankings.get(key)
        if (
            ranking is None
            or not ranking.since <= now < ranking.until
            or ranking.exact is not self._index.carrying(key)
            or ranking.covering is not self._index.carrying(ranking.wildcard)
        ):
            ranking = self._rankings[key] = self._rank(key, now)
        return ranking

    def _rank(self, key: str, now: float) -> _Ranking:
        exact, wildcard = self._index.carrying(key), _wildcard_over(key)
        covering = self._index.carrying(wildcard)
        carried = {one.fingerprint for one in exact}
        candidates = [(one, key.removeprefix("ip:")) for one in exact]
        candidates += ((one, wildcard) for one in covering if one.fingerprint not in carried)
        usable = [pair for pair in candidates if pair[0].fingerprint not in self._disregarded]
        ordered = sorted(
            usable,
            key=lambda pair: (
                self._preference.passes_over(pair[0]),
                rank(pair[0], pair[1].startswith("*."), now, self._order),
            ),
        )
        return _Ranking(
            tuple(
                Selection(one, level(one, matched.startswith("*."), now), matched, int(of_key_type(one.key_type)))
                for one, matched in ordered
            ),
            since=now,
            until=next_change((one for one, _ in candidates), now),
            exact=exact,
            wildcard=wildcard,
            covering=covering,
        )

    def _default(self, now: float) -> _Ranking:
        key = self._key(self._default_name, None)
        named = self._ranking(key, now) if key is not None else None
        own = self._own_default(now) if self._preference.default is not None else None
        made_before = self._default_ranking
        if made_before is not None and made_before.named is named and made_before.own is own:
            return made_before.ranking
        found: dict[str, Selection] = {}
        for ranking in (own, named):
            for one in ranking.selections if ranking is not None else ():
                found.setdefault(one.certificate.fingerprint, one._replace(level=Level.DEFAULT))
        if self._made is not None and self._made.fingerprint not in self._disregarded:
            made = Selection(self._made, Level.DEFAULT, "", int(of_key_type(self._made.key_type)))
            found.setdefault(self._made.fingerprint, made)
        chosen = tuple(sorted(found.values(), key=lambda one: self._preference.passes_over(one.certificate)))
        until = min((one.until for one in (own, named) if one is not None), default=math.inf)
        self._default_ranking = _Default(_Ranking(chosen, now, until), named, own)
        return self._default_ranking.ranking

    def _own_default(self, now: float) -> _Ranking | None:
        key = self._key(self._preference.default, None)
        return self._ranking(key, now) if key is not None else None

    def _why_default(self, selection: Selection, now: float) -> str:
        own = self._preference.default
        if not selection.matched:
            whose = "made at first start"
        elif own is not None and selection.matched in (own, wildcard_of(own)):
            whose = f"the listener's default = {own}"
        else:
            whose = f"default = {self._default_name}"
        return f"the default certificate ({whose}); {reason(selection.certificate, now)}"

    def _why_here(self, selection: Selection, among: Iterable[Selection]) -> str:
        """What the listener's pins have to do with a candidate's place, as the beginning of a reason."""
        if not self._preference.pins:
            return ""
        if self._preference.is_pinned(selection.certificate):
            return "has a pinned key; "
        if any(self._preference.is_pinned(one.certificate) for one in among):
            return "passed over, since its key is not pinned; "
        return "its key is not pinned, but neither is any other's; "


def _wildcard_over(key: str) -> str:
    """The wildcard that covers an exact name; nothing for other keys of the index."""
    return "" if key.startswith(("ip:", "*.")) else wildcard_of(key) or ""
