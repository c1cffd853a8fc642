"""Everything the certificate directories amount to at one moment: scanned, paired, chained, verified.

The one piece of code behind the keeper, `check`, `explain` and `certs`: a refresh looks at the directories, the trust
files and the default's name, and gives a snapshot. Work is done only for what changed: a file is parsed when its
signature changed, a chain verified when the certificates it may use or the roots changed, or the clock says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from certstore import default_certificate
from certstore.certified_key import CertifiedKey
from certstore.chain import IssuerPool, build_chain, sendable
from certstore.directory import DirectoryScanner, Scan
from certstore.errors import ENDINGS
from certstore.inventory import Inventory, Pair, Problem, problems
from certstore.load import Certificate
from certstore.names import InvalidName, canonical_name, wildcard_of
from certstore.trust import TrustStore, Verdict

log = logging.getLogger("snigate.keeper")

DEFAULT_NAME_FILE = "default"
CERTIFICATES = "certs"
MAX_PATHS = 16  # files named for one certificate, of however many hold it


@dataclass(frozen=True)
class Settings:
    """What the operator says about certificates. Paths are absolute."""

    state_directory: Path
    directories: tuple[Path, ...] = ()
    trust: tuple[str | Path, ...] = ("system",)
    passphrase_files: tuple[Path, ...] = ()
    default: str | None = None  # canonical host name

    @property
    def scanned(self) -> tuple[Path, ...]:
        """Every directory that is scanned; snigate's own first."""
        return (self.state_directory / CERTIFICATES, *self.directories)

    @property
    def looked_at(self) -> tuple[Path, ...]:
        """Single files whose change counts as well."""
        return (self.state_directory / DEFAULT_NAME_FILE, *self.passphrase_files)


@dataclass(frozen=True)
class Snapshot:
    """What can be served, and what an operator should look at."""

    certificates: dict[str, CertifiedKey] = field(default_factory=dict)  # by fingerprint
    default_name: str | None = None
    made: CertifiedKey | None = None
    problems: tuple[Problem, ...] = ()
    waiting: frozenset[str] = frozenset()
    unverified: int = 0  # certificates whose chain has not been verified yet
    again_in: float | None = None  # seconds until a scan is wanted because a file has just gone
    again_at: float = math.inf  # Unix seconds at which some chain wants to be verified again


class _Judged(NamedTuple):
    """A chain's verification, and what it was made from."""

    basis: tuple[str, ...]  # the roots' version and the candidates' fingerprints
    chain: tuple[bytes, ...]
    trusted_from: int
    trusted_until: int
    again_at: float


class _Stale(NamedTuple):
    """A pair whose chain is to be verified, the certificates it may use, and both as a basis for `_Judged`."""

    pair: Pair
    candidates: tuple[Certificate, ...]
    rooted: tuple[Certificate, ...]  # of the candidates, those that a chain to a root can be made of
    basis: tuple[str, ...]


class Catalogue:
    """Keeps the last good state of the directories from refresh to refresh."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passphrase_problems: list[Problem] = []
        self._scanner = DirectoryScanner(settings.scanned, self._passphrases)
        self._key_of = dict.fromkeys(map(str, settings.directories), "certificates.directories")
        self._inventory = Inventory()
        self._scanned = Scan({}, frozenset(), ())
        self._again_in: float | None = None
        self._trust = TrustStore.load(settings.trust)
        self._judged: dict[str, _Judged] = {}
        self._stale: list[_Stale] | None = None  # left to verify since the last scan; None: to be found out
        self._again_at = math.inf  # Unix seconds at which some chain wants to be verified again
        self._entries: dict[str, tuple[Pair, _Judged | None, CertifiedKey]] = {}
        self._pool = IssuerPool()

    @property
    def trust(self) -> TrustStore:
        """The roots in use."""
        return self._trust

    @property
    def files(self) -> Iterable[str]:
        """Every certificate file found by the last scan."""
        return self._scanned.files

    @property
    def shown_files(self) -> frozenset[str]:
        """The same in the spelling of a snapshot's paths."""
        return frozenset(map(_utf8, self.files))

    def refresh(self, now: float, monotonic: float) -> Snapshot:
        """Look at everything again and verify all of it: `scan` and `assess` in one."""
        self.scan(monotonic)
        return self.assess(now)

    def scan(self, monotonic: float, unlock_seconds: float = math.inf) -> None:
        """Look at the directories and trust files again. `monotonic` is any clock (seconds) that never goes back.

        At most `unlock_seconds` go to decrypting; where that is not enough, another scan is wanted at once. Never
        raises for what the files hold.
        """
        self._passphrase_problems = []
        self._trust = TrustStore.load(self._settings.trust)
        self._scanned = self._scanner.scan(unlock_seconds)
        again_in = self._inventory.update(self._scanned, monotonic)
        self._again_in = 0.0 if self._scanned.pending else again_in
        self._pool.replace((one for one in self._inventory.certificates if one.is_ca), self._trust.anchors)
        self._stale = None

    def assess(self, now: float, verify_at_most: int | None = None) -> Snapshot:
        """What can be served of what was scanned last, at `now` (Unix seconds).

        Certificates that compete for a name are always verified; of the others at most `verify_at_most` in one call
        (None: all), so that a caller can publish in between.
        """
        pairs = self._inventory.pairs
        unverified = self._judge(pairs, now, verify_at_most)
        certificates = {fingerprint: self._entry(fingerprint, pair) for fingerprint, pair in pairs.items()}
        self._entries = {fingerprint: self._entries[fingerprint] for fingerprint in certificates}
        name, default_problems = self._default_name()
        return Snapshot(
            certificates=certificates,
            default_name=name,
            made=default_certificate.load(self._settings.state_directory),
            problems=tuple(
                one._replace(path=_utf8(one.path))
                for one in (*problems(self._scanned, self._key_of), *self._other_problems(), *default_problems)
            ),
            waiting=frozenset(map(_utf8, self._inventory.waiting)),
            unverified=unverified,
            again_in=self._again_in,
            again_at=self._again_at,
        )

    def _judge(self, pairs: dict[str, Pair], now: float, at_most: int | None) -> int:
        """Verify what needs it, rivals for a name first; returns how many are left for a later call."""
        if self._stale is None or now >= self._again_at:
            self._stale = self._find_stale(pairs, now)
            self._judged = {fingerprint: one for fingerprint, one in self._judged.items() if fingerprint in pairs}
        due, self._stale = self._stale, []
        if at_most is not None and len(due) > at_most:
            competing = _competing(pair.certificate for pair in pairs.values())
            due.sort(key=lambda one: one.pair.certificate.fingerprint not in competing)
            rivals = sum(one.pair.certificate.fingerprint in competing for one in due)
            due, self._stale = due[: rivals + at_most], due[rivals + at_most :]
        for one in due:
            self._judged[one.pair.certificate.fingerprint] = self._judgement(one, now)
        self._again_at = min((one.again_at for one in self._judged.values()), default=math.inf)
        return len(self._stale)

    def _judgement(self, stale: _Stale, now: float) -> _Judged:
        leaf = stale.pair.certificate
        try:
            verdict, again_at = self._trust.best_verdict(leaf, stale.rooted, now)
            return _judged(stale.basis, leaf, stale.candidates, verdict, again_at)
        except ENDINGS:
            raise
        except BaseException:  # whatever a library makes of hostile bytes costs this certificate its chain, not all
            log.exception("the chain of certificate %s cannot be verified; it counts as not trusted", leaf.fingerprint)
            return _Judged(stale.basis, (), 0, 0, math.inf)

    def _find_stale(self, pairs: dict[str, Pair], now: float) -> list[_Stale]:
        """The pairs whose chain has to be verified: new ones, those with other candidates or roots, those due."""
        found = []
        for fingerprint, pair in pairs.items():
            candidates = self._pool.candidates(pair.certificate, pair.company)
            rooted = self._pool.rooted(candidates)
            basis = (self._trust.version, *(one.fingerprint for one in (*candidates, *rooted)))
            judged = self._judged.get(fingerprint)
            if judged is None or judged.basis != basis or now >= judged.again_at:
                found.append(_Stale(pair, candidates, rooted, basis))
        return found

    def _entry(self, fingerprint: str, pair: Pair) -> CertifiedKey:
        judged = self._judged.get(fingerprint)
        known = self._entries.get(fingerprint)
        if known is not None and known[0] is pair and known[1] is judged:
            return known[2]
        leaf = pair.certificate
        entry = CertifiedKey(
            fingerprint=fingerprint,
            names=leaf.names,
            addresses=leaf.addresses,
            key_type=leaf.key_type,
            not_before=leaf.not_before,
            not_after=leaf.not_after,
            self_signed=leaf.self_signed,
            trusted_from=judged.trusted_from if judged else 0,
            trusted_until=judged.trusted_until if judged else 0,
            leaf=leaf.der,
            chain=judged.chain
            if judged
            else sendable(one.der for one in pair.company if one.is_ca and not one.self_signed),
            key=pair.key.der,
            paths=tuple(map(_utf8, pair.paths[:MAX_PATHS])),
        )
        if known is not None and known[2] == entry:
            entry = known[2]
        self._entries[fingerprint] = (pair, judged, entry)
        return entry

    def _default_name(self) -> tuple[str | None, list[Problem]]:
        """The default's host name: the configuration's, else what `<state>/default` says."""
        if self._settings.default is not None:
            return self._settings.default, []
        path = self._settings.state_directory / DEFAULT_NAME_FILE
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(1024).strip()
            return (canonical_name(text), []) if text else (None, [])
        except (FileNotFoundError, NotADirectoryError):
            return None, []
        except (OSError, UnicodeDecodeError, InvalidName) as error:
            why = error.strerror if isinstance(error, OSError) else error
            message = f"must hold one host name, the default certificate's ({why}); write it anew"
            return None, [Problem(str(path), "default_name", message)]

    def _passphrases(self) -> Sequence[bytes]:
        """One passphrase a line, from all passphrase files."""
        found: dict[bytes, None] = {}
        for path in self._settings.passphrase_files:
            try:
                with path.open("rb") as file:
                    lines = file.read(1 << 16).splitlines()
            except OSError as error:
                message = f"the passphrase file cannot be read ({error.strerror}); let the user snigate runs as read it"
                self._passphrase_problems.append(Problem(str(path), "unreadable", message))
                continue
            found.update((line, None) for line in lines if line)
        return tuple(found)

    def _other_problems(self) -> list[Problem]:
        return [
            *self._passphrase_problems,
            *(Problem(str(path), "trust", message) for path, message in self._trust.problems),
        ]


def _judged(
    basis: tuple[str, ...],
    leaf: Certificate,
    candidates: tuple[Certificate, ...],
    verdict: Verdict | None,
    again_at: float | None,
) -> _Judged:
    later = math.inf if again_at is None else again_at
    if verdict is None or sendable(verdict.chain) != verdict.chain:
        return _Judged(basis, build_chain(leaf, candidates), 0, 0, later)
    return _Judged(basis, verdict.chain, verdict.valid_from, verdict.valid_until, later)


def _competing(certificates: Iterable[Certificate]) -> frozenset[str]:
    """Fingerprints of certificates that share a host name with another, by the exact name or through a wildcard."""
    holders: dict[str, list[str]] = {}
    for one in certificates:
        for name in (*one.names, *one.addresses):
            holders.setdefault(name, []).append(one.fingerprint)
    found: set[str] = set()
    for name, fingerprints in holders.items():
        wildcard = None if name.startswith("*.") else wildcard_of(name)
        rivals = holders.get(wildcard, []) if wildcard is not None else []
        if len(fingerprints) + len(rivals) > 1:
            found.update(fingerprints, rivals)
    return frozenset(found)


def _utf8(path: str) -> str:
    """A path that can be sent: bytes of a file name that are not UTF-8 (lone surrogates here) become escapes."""
    return path if path.isascii() else path.encode(errors="backslashreplace").decode()
