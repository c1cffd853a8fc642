"""What can be served: certificates and keys paired by public key, the last good kept.

Pairing looks at public keys alone, so a certificate and a key that do not belong together are never served together,
whatever their files are called and in whichever order they were written.

What works is kept until something that works takes its place:

- a file that is broken or cannot be seen now still counts with its last good content;
- a file that is gone counts for another GRACE seconds (renewals remove and write again);
- a pair whose certificate's file now holds other certificates is kept until one of those can be served (its key may
  arrive a moment later); one whose key's file now holds another key is kept until the certificate follows.

No input or output here: scans come in, pairs come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from certstore.directory import FileState, Scan
from certstore.load import Certificate, FileContent, PrivateKey
from certstore.unreadable import of_directory

GRACE = 1.0  # seconds that a file may be gone before what it held is retired
UNREADABLE_DIRECTORY = "unreadable_directory"  # a problem's reason


class Pair(NamedTuple):
    """A leaf with its private key, the other certificates of its file, and the files that hold them."""

    certificate: Certificate
    key: PrivateKey
    company: tuple[Certificate, ...]  # certificates found in the same file as the leaf
    certificate_paths: tuple[str, ...]
    key_paths: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the leaf, then those that hold only the key."""
        return self.certificate_paths + tuple(path for path in self.key_paths if path not in self.certificate_paths)


class Problem(NamedTuple):
    """A file or directory that an operator should look at. `reason` is out of a fixed set, `message` a sentence."""

    path: str
    reason: str
    message: str


@dataclass
class _Known:
    """A file's last good content, and since when it has been gone."""

    content: FileContent
    gone_since: float | None = None


@dataclass
class _Sources:
    """Where a certificate or a key was found in this update."""

    paths: list[str] = field(default_factory=list)
    company: dict[str, Certificate] = field(default_factory=dict)


class Inventory:
    """Pairs that can be served, kept from scan to scan."""

    def __init__(self) -> None:
        self._files: dict[str, _Known] = {}
        self._pairs: dict[str, Pair] = {}
        self._waiting: frozenset[str] = frozenset()

    @property
    def pairs(self) -> dict[str, Pair]:
        """Every pair that can be served, by the leaf's fingerprint."""
        return self._pairs

    @property
    def certificates(self) -> Iterable[Certificate]:
        """Every certificate in the last good content of the files, leaves and issuers alike."""
        return (one for known in self._files.values() for one in known.content.certificates)

    @property
    def waiting(self) -> frozenset[str]:
        """Files that hold a leaf for which no private key was found in any directory."""
        return self._waiting

    def update(self, scan: Scan, now: float) -> float | None:
        """Take in a scan made at `now` (seconds, any monotonic clock).

        Returns in how many seconds another scan is wanted because a file has just gone; None when that can wait.
        """
        self._take_in(scan.files, now)
        certificates, keys = self._sources()
        found = self._pair(certificates, keys)
        kept = {
            fingerprint: pair
            for fingerprint, pair in self._pairs.items()
            if fingerprint not in found and self._is_held(pair, certificates, keys, found)
        }
        self._pairs = {**kept, **found}
        self._waiting = self._without_key(certificates)
        gone = [known.gone_since for known in self._files.values() if known.gone_since is not None]
        return GRACE - (now - min(gone)) if gone else None

    def _take_in(self, files: dict[str, FileState], now: float) -> None:
        for path, state in files.items():
            known = self._files.get(path)
            if state.content is not None:
                if known is None or known.content is not state.content or known.gone_since is not None:
                    self._files[path] = _Known(state.content)
            elif known is not None:
                known.gone_since = None
        for path in [path for path in self._files if path not in files]:
            known = self._files[path]
            if known.gone_since is None:
                known.gone_since = now
            if now - known.gone_since >= GRACE:
                del self._files[path]

    def _sources(self) -> tuple[dict[str, tuple[Certificate, _Sources]], dict[bytes, tuple[PrivateKey, _Sources]]]:
        """Certificates by fingerprint and keys by public key, each with the files it stands in."""
        certificates: dict[str, tuple[Certificate, _Sources]] = {}
        keys: dict[bytes, tuple[PrivateKey, _Sources]] = {}
        for path in sorted(self._files):
            content = self._files[path].content
            for certificate in content.certificates:
                _, sources = certificates.setdefault(certificate.fingerprint, (certificate, _Sources()))
                sources.paths.append(path)
                sources.company.update((one.fingerprint, one) for one in content.certificates if one is not certificate)
            for key in content.keys:
                keys.setdefault(key.spki, (key, _Sources()))[1].paths.append(path)
        return certificates, keys

    def _pair(
        self,
        certificates: dict[str, tuple[Certificate, _Sources]],
        keys: dict[bytes, tuple[PrivateKey, _Sources]],
    ) -> dict[str, Pair]:
        found = {}
        for fingerprint, (certificate, sources) in certificates.items():
            match = keys.get(certificate.spki)
            if match is None or (certificate.is_ca and not (certificate.names or certificate.addresses)):
                continue
            pair = Pair(
                certificate, match[0], tuple(sources.company.values()), tuple(sources.paths), tuple(match[1].paths)
            )
            known = self._pairs.get(fingerprint)
            found[fingerprint] = known if known == pair else pair
        return found

    def _without_key(self, certificates: dict[str, tuple[Certificate, _Sources]]) -> frozenset[str]:
        """The files of certificates that are for a server and lack their key.

        An authority is for a server too when it has a host's name or address and has issued nothing found here, as
        what `openssl req -x509` makes.
        """
        issuers = {one.issuer for one, _ in certificates.values() if one.issuer != one.subject}
        return frozenset(
            path
            for fingerprint, (one, sources) in certificates.items()
            if fingerprint not in self._pairs and (not one.is_ca or (_has_host(one) and one.subject not in issuers))
            for path in sources.paths
        )

    def _is_held(
        self,
        pair: Pair,
        certificates: dict[str, tuple[Certificate, _Sources]],
        keys: dict[bytes, tuple[PrivateKey, _Sources]],
        found: dict[str, Pair],
    ) -> bool:
        """Whether a pair that the files no longer make is still to be served."""
        if pair.certificate.fingerprint in certificates and pair.certificate.spki not in keys:
            return any(path in self._files for path in pair.key_paths)
        return any(
            known is not None and not any(one.fingerprint in found for one in known.content.certificates)
            for known in map(self._files.get, pair.certificate_paths)
        )


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
            for path, state in sorted(scan.files.items())
            if state.rejection is not None
        ),
    ]


def _of_directory(path: str, code: int, key: str | None, unseen: Iterable[str]) -> Problem:
    held = any(one.startswith(path.rstrip("/") + "/") for one in unseen)
    return Problem(path, UNREADABLE_DIRECTORY, of_directory(code, key, held=held))
