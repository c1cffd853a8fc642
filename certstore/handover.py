"""Which names would be served another certificate if these came and those went: said before it happens, and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.ranking import Order
from certstore.selector import Selection, Selector


class Handover(NamedTuple):
    """One name that changes hands."""

    name: str  # a host name, a wildcard or an address; "" is who asks for a name that no certificate has
    before: Selection | None
    after: Selection | None


@dataclass(frozen=True)
class Situation:
    """What is served now, and by which rules."""

    index: Index
    order: Order
    default_name: str | None
    made: CertifiedKey | None  # at first start
    clock: Callable[[], float] = time.time

    def selector(self, index: Index | None = None) -> Selector:
        """Ranks this index, or the one that there is."""
        found = Selector(index or self.index, self.order, self.clock)
        found.set_default(self.default_name, self.made)
        return found


def handovers(
    now: Situation, put: Iterable[CertifiedKey] = (), retire: Iterable[str] = (), default_name: str | None = None
) -> list[Handover]:
    """What would be otherwise with these put and the fingerprints in `retire` gone, in the order of the names.

    `default_name`: and this host name the default's; None: it stays.
    """
    put, retire = tuple(put), tuple(retire)
    held = now.index.certificates
    touched = (*put, *(held[one] for one in retire if one in held))
    then = replace(now, index=_changed(now.index, put, retire), default_name=default_name or now.default_name)
    before, after = now.selector(), then.selector()
    found = []
    for name in sorted({name for one in touched for name in one.names}):
        found.append(Handover(name, before.select(name), after.select(name)))
    for address in sorted({address for one in touched for address in one.addresses}):
        found.append(
            Handover(address, before.select(None, local_address=address), after.select(None, local_address=address))
        )
    found.append(Handover("", before.select(None), after.select(None)))
    return [one for one in found if _fingerprint(one.before) != _fingerprint(one.after)]


def _changed(index: Index, put: Iterable[CertifiedKey], retire: Iterable[str]) -> Index:
    changed = Index()
    for certificates, gone in ((tuple(index), ()), (put, retire)):
        for _ in changed.apply(certificates, gone):
            pass
    return changed


def _fingerprint(selection: Selection | None) -> str | None:
    return selection.certificate.fingerprint if selection is not None else None
