"""From a host name or address to the certificates that carry it.

Candidates of a name are one tuple, replaced whole: whoever looks a name up sees the state before a change or after
it, never half of it, also while a large change is applied name by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from certstore.certified_key import CertifiedKey

SLICE = 512  # names replaced between two events of a worker's loop: about a millisecond


class Index:
    """Certificates by fingerprint, and by each of their names and addresses."""

    def __init__(self) -> None:
        self._certificates: dict[str, CertifiedKey] = {}
        self._by_name: dict[str, tuple[CertifiedKey, ...]] = {}

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

    def apply(self, put: Iterable[CertifiedKey], retire: Iterable[str] = ()) -> Iterator[None]:
        """Add or replace `put`, remove the fingerprints in `retire`; work happens as the iterator is consumed.

        Yields between slices of at most SLICE names, each name being wholly old or wholly new. Names that gain go
        first, so that a host which moves from an exact name to a wildcard, or back, is covered all the while. Raises
        nothing; an unknown fingerprint in `retire` is passed over.
        """
        arriving = {certificate.fingerprint: certificate for certificate in put}
        leaving = set(arriving)
        leaving.update(fingerprint for fingerprint in retire)
        additions: dict[str, list[CertifiedKey]] = {}
        touched: dict[str, None] = {}
        for fingerprint in leaving:
            if (known := self._certificates.get(fingerprint)) is not None:
                touched.update(dict.fromkeys(_keys(known)))
        for certificate in arriving.values():
            for key in _keys(certificate):
                touched[key] = None
                additions.setdefault(key, []).append(certificate)
        self._certificates.update(arriving)
        names = iter(sorted(touched, key=lambda key: key not in additions))
        while batch := tuple(islice(names, SLICE)):
            for key in batch:
                kept = [one for one in self._by_name.get(key, ()) if one.fingerprint not in leaving]
                kept += additions.get(key, ())
                if kept:
                    self._by_name[key] = tuple(kept)
                else:
                    self._by_name.pop(key, None)
            yield
        for fingerprint in leaving - arriving.keys():
            self._certificates.pop(fingerprint, None)


def _keys(certificate: CertifiedKey) -> Iterator[str]:
    yield from certificate.names
    for address in certificate.addresses:
        yield f"ip:{address}"
