"""From a host name or address to the certificates that carry it.

Candidates of a name are one tuple, replaced whole: whoever looks a name up sees the state before a change or after
it, never half of it, also while a large change is applied name by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from certstore.certified_key import CertifiedKey

T = TypeVar("T")

SLICE = 512  # names replaced between two events of a worker's loop: about a millisecond


class Index:
    """Certificates by fingerprint, and by each of their names and addresses."""

    def __init__(self) -> None:
        self._certificates: dict[str, CertifiedKey] = {}
        self._by_name: dict[str, tuple[CertifiedKey, ...]] = {}
        self.revision = 0  # another whenever names' candidates were replaced

    def __len__(self) -> int:
        return len(self._certificates)

    def __iter__(self) -> Iterator[CertifiedKey]:
        return iter(self._certificates.values())

    @property
    def certificates(self) -> Mapping[str, CertifiedKey]:
        """Every certificate by its fingerprint."""
        return self._certificates

    @property
    def names(self) -> Iterable[str]:
        """Every name (wildcards as such) that some certificate carries."""
        return (key for key in self._by_name if not key.startswith("ip:"))

    def named(self, name: str) -> tuple[CertifiedKey, ...]:
        """Certificates that carry exactly this canonical name; a wildcard is looked up as "*.example.com"."""
        return self._by_name.get(name, ())

    def addressed(self, address: str) -> tuple[CertifiedKey, ...]:
        """Certificates that carry this IP address, written as the ipaddress module prints it."""
        return self._by_name.get(f"ip:{address}", ())

    def carrying(self, key: str) -> tuple[CertifiedKey, ...]:
        """Certificates that carry a canonical name or wildcard, or an address written as "ip:...". The same object as
        before unless a change replaced it."""
        return self._by_name.get(key, ())

    def apply(self, put: Iterable[CertifiedKey], retire: Iterable[str] = ()) -> Iterator[tuple[str, ...]]:
        """Add or replace `put`, remove the fingerprints in `retire`; work happens as the iterator is consumed.

        Yields after at most SLICE certificates or names looked at or replaced, with the names replaced (addresses as
        "ip:..."), each name being wholly old or wholly new. Names that gain go first, so that a host which moves from
        an exact name to a wildcard, or back, is covered all the while. Raises nothing; an unknown fingerprint in
        `retire` is passed over.
        """
        arriving: dict[str, CertifiedKey] = {}
        leaving: set[str] = set()
        additions: dict[str, list[CertifiedKey]] = {}
        losing: dict[str, None] = {}
        for batch in batches(put):
            arriving.update((one.fingerprint, one) for one in batch)
            yield ()
        for batch in batches(arriving.values()):
            for one in batch:
                leaving.add(one.fingerprint)
                losing.update(dict.fromkeys(self._keys_of(one.fingerprint)))
                for key in _keys(one):
                    additions.setdefault(key, []).append(one)
                self._certificates[one.fingerprint] = one
            yield ()
        retired = [fingerprint for fingerprint in retire if fingerprint not in arriving]
        for fingerprints in batches(retired):
            leaving.update(fingerprints)
            for fingerprint in fingerprints:
                losing.update(dict.fromkeys(self._keys_of(fingerprint)))
            yield ()
        for keys in batches(additions):
            for key in keys:
                kept = [one for one in self._by_name.get(key, ()) if one.fingerprint not in leaving]
                self._by_name[key] = (*kept, *additions[key])
            self.revision += 1
            yield keys
        for keys in batches(key for key in losing if key not in additions):
            for key in keys:
                if kept := [one for one in self._by_name.get(key, ()) if one.fingerprint not in leaving]:
                    self._by_name[key] = tuple(kept)
                else:
                    self._by_name.pop(key, None)
            self.revision += 1
            yield keys
        for fingerprints in batches(retired):
            for fingerprint in fingerprints:
                self._certificates.pop(fingerprint, None)
            yield ()

    def _keys_of(self, fingerprint: str) -> Iterator[str]:
        known = self._certificates.get(fingerprint)
        return iter(()) if known is None else _keys(known)


def batches(items: Iterable[T], most: int = SLICE) -> Iterator[tuple[T, ...]]:
    """Items in their order, as many at a time as may hold up a worker's loop."""
    rest = iter(items)
    while batch := tuple(islice(rest, most)):
        yield batch


def _keys(certificate: CertifiedKey) -> Iterator[str]:
    yield from certificate.names
    for address in certificate.addresses:
        yield f"ip:{address}"
