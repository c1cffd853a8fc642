"""What can be served: certificates and keys paired by public key, the last good kept.

Pairing looks at public keys alone, so a certificate and a key that do not belong together are never served together,
whatever their files are called and in whichever order they were written.

What works is kept until something that works takes its place:

- a file that is broken or cannot be seen now still counts with its last good content, unless that never was good;
- a file that is gone counts for another GRACE seconds (renewals remove and write again);
- a pair whose certificate's file now holds other certificates is kept until one of those can be served (its key may
  arrive a moment later); one whose key's file now holds another key is kept until the certificate follows.

No input or output here: scans come in, pairs come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from certstore.load import Certificate, FileContent, PrivateKey
from certstore.multimap import Multimap
from certstore.scan import Scan
from certstore.unreadable import of_directory

GRACE = 1.0  # seconds that a file may be gone before what it held is retired
MAX_SHARED = 10_000  # companies that many pairs may have as one object
UNREADABLE_DIRECTORY = "unreadable_directory"  # a problem's reason


class Pair(msgspec.Struct, frozen=True, gc=False):
    """A leaf with its private key, the other certificates of its file, and the files that hold them."""

    certificate: Certificate
    key: PrivateKey
    company: tuple[Certificate, ...]  # certificates found in the same file as the leaf
    certificate_paths: tuple[str, ...]
    key_paths: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the leaf, then those that hold only the key."""
        if self.key_paths == self.certificate_paths:
            return self.certificate_paths
        return self.certificate_paths + tuple(path for path in self.key_paths if path not in self.certificate_paths)


class Problem(NamedTuple):
    """A file or directory that an operator should look at. `reason` is out of a fixed set, `message` a sentence."""

    path: str
    reason: str
    message: str


class Inventory:
    """Pairs that can be served, kept from scan to scan. A scan costs what it touched, not what there is."""

    def __init__(self) -> None:
        self._files: dict[str, FileContent] = {}  # the last good content
        self._gone: dict[str, float] = {}  # of these files, the missing ones, and since when they are
        self._certificates: dict[str, Certificate] = {}  # by fingerprint
        self._authorities: dict[str, Certificate] = {}
        self._issuers: Counter[bytes] = Counter()  # how many certificates each name has issued, its own apart
        self._certificate_files: Multimap[str] = Multimap()  # by fingerprint
        self._key_files: Multimap[bytes] = Multimap()  # by public key
        self._carriers: Multimap[bytes] = Multimap()  # fingerprints by public key
        self._pairs: dict[str, Pair] = {}
        self._held: set[str] = set()  # of the pairs, those that the files no longer make
        self._keyless: set[str] = set()  # fingerprints of what may wait for its key
        self._companies: dict[tuple[str, ...], tuple[Certificate, ...]] = {}
        self._waiting: frozenset[str] | None = frozenset()  # None: to be found out
        self._changed: set[str] = set()
        self._issuers_changed = False

    @property
    def pairs(self) -> dict[str, Pair]:
        """Every pair that can be served, by the leaf's fingerprint."""
        return self._pairs

    @property
    def certificates(self) -> Iterable[Certificate]:
        """Every certificate in the last good content of the files, leaves and issuers alike."""
        return self._certificates.values()

    @property
    def authorities(self) -> Iterable[Certificate]:
        """Of these, those of authorities."""
        return self._authorities.values()

    @property
    def waiting(self) -> frozenset[str]:
        """Files that hold a leaf for which no private key was found in any directory."""
        if self._waiting is None:
            self._waiting = frozenset(self._without_key())
        return self._waiting

    def take_changes(self) -> tuple[set[str], bool]:
        """Fingerprints whose pair is new, another or gone since this was asked last; whether authorities changed."""
        changes = self._changed, self._issuers_changed
        self._changed, self._issuers_changed = set(), False
        return changes

    def update(self, scan: Scan, now: float) -> float | None:
        """Take in a scan made at `now` (seconds, any monotonic clock).

        Returns in how many seconds another scan is wanted because a file has just gone; None when that can wait.
        """
        affected = self._take_in(scan, now)
        self._pair(affected)
        for fingerprint in [one for one in self._held if not self._is_held(self._pairs[one])]:
            self._held.discard(fingerprint)
            del self._pairs[fingerprint]
            self._changed.add(fingerprint)
            affected.add(fingerprint)
        for fingerprint in affected:
            if self._may_wait(fingerprint):
                self._keyless.add(fingerprint)
            else:
                self._keyless.discard(fingerprint)
        if affected:
            self._waiting = None
        return GRACE - (now - min(self._gone.values())) if self._gone else None

    def _take_in(self, scan: Scan, now: float) -> set[str]:
        """Hold what the files hold; the fingerprints whose pair may be another now."""
        affected: set[str] = set()
        for path, content, _ in scan.disproved:
            if self._files.get(path) is content:
                self._replace(path, None, affected)
        touched = scan.touched if scan.touched is not None else {**scan.files, **self._files}
        for path in touched:
            state = scan.files.get(path)
            if state is None:
                if path in self._files:
                    self._gone.setdefault(path, now)
                continue
            self._gone.pop(path, None)
            if state.content is not None and self._files.get(path) is not state.content:
                self._replace(path, state.content, affected)
        for path in [path for path, since in self._gone.items() if now - since >= GRACE]:
            del self._gone[path]
            self._replace(path, None, affected)
        return affected

    def _replace(self, path: str, content: FileContent | None, affected: set[str]) -> None:
        """Let a file hold this, or nothing any more."""
        before = self._files.pop(path, None)
        if content is not None:
            self._files[path] = content
            for certificate in content.certificates:
                self._add(certificate, path)
            for key in content.keys:
                self._key_files.add(key.spki, path)
        if before is not None:
            self._remove(before, content, path)
        for one in (before, content):
            if one is not None:
                affected.update(certificate.fingerprint for certificate in one.certificates)
                for key in one.keys:
                    affected.update(self._carriers.sorted(key.spki))

    def _add(self, certificate: Certificate, path: str) -> None:
        fingerprint = certificate.fingerprint
        self._certificate_files.add(fingerprint, path)
        if fingerprint in self._certificates:
            return
        self._certificates[fingerprint] = certificate
        self._carriers.add(certificate.spki, fingerprint)
        if certificate.issuer != certificate.subject:
            self._issuers[certificate.issuer] += 1
        if certificate.is_ca:
            self._authorities[fingerprint] = certificate
            self._issuers_changed = True

    def _remove(self, before: FileContent, after: FileContent | None, path: str) -> None:
        """Forget what a file held before and holds no longer."""
        left = {one.fingerprint for one in after.certificates} if after is not None else ()
        for certificate in before.certificates:
            fingerprint = certificate.fingerprint
            if fingerprint in left:
                continue
            self._certificate_files.discard(fingerprint, path)
            if fingerprint in self._certificate_files:
                continue
            del self._certificates[fingerprint]
            self._carriers.discard(certificate.spki, fingerprint)
            if certificate.issuer != certificate.subject:
                self._issuers[certificate.issuer] -= 1
                if not self._issuers[certificate.issuer]:
                    del self._issuers[certificate.issuer]
            if self._authorities.pop(fingerprint, None) is not None:
                self._issuers_changed = True
        kept = {one.spki for one in after.keys} if after is not None else ()
        for key in before.keys:
            if key.spki not in kept:
                self._key_files.discard(key.spki, path)

    def _pair(self, affected: Iterable[str]) -> None:
        for fingerprint in affected:
            known, found = self._pairs.get(fingerprint), self._found(fingerprint)
            if found is None:
                if known is not None:
                    self._held.add(fingerprint)
                continue
            self._held.discard(fingerprint)
            if found != known:
                self._pairs[fingerprint] = found
                self._changed.add(fingerprint)

    def _found(self, fingerprint: str) -> Pair | None:
        """The pair that the files make of a certificate, if any."""
        certificate = self._certificates.get(fingerprint)
        if certificate is None or certificate.spki not in self._key_files:
            return None
        if certificate.is_ca and not (certificate.names or certificate.addresses):
            return None
        paths = self._certificate_files.sorted(fingerprint)
        key_paths = self._key_files.sorted(certificate.spki)
        company = {
            one.fingerprint: one
            for path in paths
            for one in self._files[path].certificates
            if one.fingerprint != fingerprint
        }
        key = next(one for one in self._files[key_paths[0]].keys if one.spki == certificate.spki)
        if len(self._companies) > MAX_SHARED:
            self._companies.clear()
        shared = self._companies.setdefault(tuple(company), tuple(company.values()))
        return Pair(certificate, key, shared, paths, paths if paths == key_paths else key_paths)

    def _may_wait(self, fingerprint: str) -> bool:
        """Whether a certificate lacks its key and may be for a server."""
        one = self._certificates.get(fingerprint)
        return one is not None and fingerprint not in self._pairs and (not one.is_ca or _has_host(one))

    def _without_key(self) -> Iterator[str]:
        """The files of certificates that are for a server and lack their key.

        An authority is for a server too when it has a host's name or address and has issued nothing found here, as
        what `openssl req -x509` makes.
        """
        for fingerprint in self._keyless:
            one = self._certificates[fingerprint]
            if not one.is_ca or one.subject not in self._issuers:
                yield from self._certificate_files.sorted(fingerprint)

    def _is_held(self, pair: Pair) -> bool:
        """Whether a pair that the files no longer make is still to be served."""
        if pair.certificate.fingerprint in self._certificates and pair.certificate.spki not in self._key_files:
            return any(path in self._files for path in pair.key_paths)
        return any(
            known is not None and not any(self._makes_pair(one.fingerprint) for one in known.certificates)
            for known in map(self._files.get, pair.certificate_paths)
        )

    def _makes_pair(self, fingerprint: str) -> bool:
        return fingerprint in self._pairs and fingerprint not in self._held


def _has_host(certificate: Certificate) -> bool:
    """Whether a host is named: authorities may be called by a single word, which is then taken for a name."""
    return bool(certificate.addresses) or any("." in name or name == "localhost" for name in certificate.names)


def problems(scan: Scan, key_of: Mapping[str, str] = MappingProxyType({})) -> list[Problem]:
    """What a scan found that an operator should look at, directories first, then files by path.

    `key_of` has the configuration's key for the directories that it names.
    """
    return [
        *(_of_directory(path, code, key_of.get(path), scan.unseen) for path, code in scan.unreadable),
        *(
            Problem(path, state.rejection.reason.value, state.rejection.message)
            for path, state in sorted(scan.rejected)
            if state.rejection is not None
        ),
    ]


def _of_directory(path: str, code: int, key: str | None, unseen: Iterable[str]) -> Problem:
    held = any(one.startswith(path.rstrip("/") + "/") for one in unseen)
    return Problem(path, UNREADABLE_DIRECTORY, of_directory(code, key, held=held))
