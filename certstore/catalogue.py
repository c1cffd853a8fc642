"""Everything the certificate directories amount to at one moment: scanned, paired, chained, verified.

The one piece of code behind the keeper, `check`, `explain` and `certs`: a refresh looks at the directories, the trust
files and the default's name, and gives a snapshot. Work is done only for what changed: a file is parsed when its
signature changed, a chain verified when the certificates it may use or the roots changed, or the clock says so.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from certstore import default_certificate
from certstore.certified_key import CertifiedKey
from certstore.directory import DirectoryScanner
from certstore.errors import CertstoreError
from certstore.inventory import Inventory, Pair, Problem, problems
from certstore.names import InvalidName, canonical_name
from certstore.scan import Scan
from certstore.trust import TrustStore
from certstore.verifier import Judgement, Verifier

DEFAULT_NAME_FILE = "default"
CERTIFICATES = "certs"
TRUSTED = "trust"
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
    def roots(self) -> tuple[str | Path, ...]:
        """Where root certificates are: as configured, and those that were added by command, if any were."""
        added = self.state_directory / TRUSTED
        try:
            return (*self.trust, added) if added.is_dir() else self.trust
        except OSError:  # this user may not look
            return self.trust

    @property
    def looked_at(self) -> tuple[Path, ...]:
        """Single files whose change counts as well."""
        return (self.state_directory / DEFAULT_NAME_FILE, *self.passphrase_files)


@dataclass(frozen=True)
class Snapshot:
    """What can be served, and what an operator should look at."""

    certificates: Mapping[str, CertifiedKey] = field(default_factory=dict)  # by fingerprint
    changed: frozenset[str] = frozenset()  # fingerprints of those that the snapshot before had not, or had otherwise
    default_name: str | None = None
    made: CertifiedKey | None = None
    problems: tuple[Problem, ...] = ()
    waiting: frozenset[str] = frozenset()
    unverified: int = 0  # certificates whose chain has not been verified yet
    again_in: float | None = None  # seconds until a scan is wanted because a file has just gone
    again_at: float = math.inf  # Unix seconds at which some chain wants to be verified again


class Catalogue:
    """Keeps the last good state of the directories from refresh to refresh."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passphrase_problems: list[Problem] = []
        self._scanner = DirectoryScanner(settings.scanned, self._passphrases)
        self._key_of = dict.fromkeys(map(str, settings.directories), "certificates.directories")
        self._inventory = Inventory()
        self._trust = TrustStore.load(settings.roots)
        self._verifier = Verifier(self._trust)
        self._again_in: float | None = None
        self._certificates: dict[str, CertifiedKey] = {}
        self._touched: set[str] = set()  # fingerprints whose entry has to be made anew
        self._problems: tuple[Problem, ...] = ()
        self._last_made: CertifiedKey | None = None
        self._last_default_name: str | None = None
        self._waiting: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())  # as found, and as shown

    @property
    def trust(self) -> TrustStore:
        """The roots in use."""
        return self._trust

    @property
    def outside(self) -> Iterable[str]:
        """Certificate files that lie outside the directories, of which a watch says nothing; not all of very many."""
        return self._scanner.outside

    def holds(self, path: str) -> bool:
        """Whether the last scan found a certificate file with this path, in the spelling of a snapshot's paths."""
        return self._scanner.holds(path) or ("\\" in path and path in map(_utf8, self._scanner.files))

    def refresh(self, now: float, monotonic: float) -> Snapshot:
        """Look at everything again and verify all of it: `scan` and `assess` in one."""
        self.scan(monotonic)
        return self.assess(now)

    def scan(self, monotonic: float, unlock_seconds: float = math.inf, events: Collection[str] | None = None) -> None:
        """Look at the directories and trust files again. `monotonic` is any clock (seconds) that never goes back.

        With `events`, only at what a change at these paths may concern. At most `unlock_seconds` go to decrypting;
        where that is not enough, another scan is wanted at once. Never raises for what the files hold.
        """
        self._passphrase_problems = []
        self._trust = TrustStore.load(self._settings.roots, self._trust)
        authorities_changed = False

        def take_in(scanned: Scan) -> float | None:
            nonlocal authorities_changed
            again_in = self._inventory.update(scanned, monotonic)
            changed, others = self._inventory.take_changes()
            authorities_changed = authorities_changed or others
            self._touched |= changed
            self._verifier.take_in(changed, self._inventory.pairs)
            return again_in

        scanned = self._scanner.scan(unlock_seconds, events, take_in)
        again_in = take_in(scanned)
        self._again_in = 0.0 if scanned.pending else again_in
        if authorities_changed or self._trust.version != self._verifier.trust.version:
            self._verifier.replace(self._inventory.authorities, self._trust)
        self._problems = tuple(
            one._replace(path=_utf8(one.path)) for one in (*problems(scanned, self._key_of), *self._other_problems())
        )

    def assess(self, now: float, verify_at_most: int | None = None) -> Snapshot:
        """What can be served of what was scanned last, at `now` (Unix seconds).

        Certificates that compete for a name are always verified; of the others at most `verify_at_most` in one call
        (None: all), so that a caller can publish in between.
        """
        self._touched |= self._verifier.verify(self._inventory.pairs, now, verify_at_most)
        touched, self._touched = self._touched, set()
        changed = self._changed_of(touched)
        name, default_problems = self._default_name()
        return Snapshot(
            certificates=self._certificates,
            changed=changed,
            default_name=name,
            made=self._made(),
            problems=(*self._problems, *(one._replace(path=_utf8(one.path)) for one in default_problems)),
            waiting=self._shown_waiting(),
            unverified=self._verifier.unverified,
            again_in=self._again_in,
            again_at=self._verifier.again_at,
        )

    def _changed_of(self, touched: Iterable[str]) -> frozenset[str]:
        """Make these entries anew, in a table of their own if any differs; those that are others than before."""
        changed: dict[str, CertifiedKey | None] = {}
        for fingerprint in touched:
            pair, known = self._inventory.pairs.get(fingerprint), self._certificates.get(fingerprint)
            entry = None if pair is None else _entry(pair, self._verifier.judgement(fingerprint))
            if entry != known:
                changed[fingerprint] = entry
        if changed:
            self._certificates = self._certificates.copy()  # the one before is another snapshot's
        for fingerprint, entry in changed.items():
            if entry is None:
                del self._certificates[fingerprint]
            else:
                self._certificates[fingerprint] = entry
        return frozenset(changed)

    def _shown_waiting(self) -> frozenset[str]:
        found, shown = self._waiting
        if self._inventory.waiting is not found:
            found = self._inventory.waiting
            shown = frozenset(map(_utf8, found))
            self._waiting = found, shown
        return shown

    def _made(self) -> CertifiedKey | None:
        """The certificate made at the first start; where it cannot be read now, as it was read last."""
        with contextlib.suppress(CertstoreError):
            self._last_made = default_certificate.load(self._settings.state_directory)
        return self._last_made

    def _default_name(self) -> tuple[str | None, list[Problem]]:
        """The default's host name: the configuration's, else what `<state>/default` says, or said when last read."""
        if self._settings.default is not None:
            return self._settings.default, []
        path = self._settings.state_directory / DEFAULT_NAME_FILE
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(1024).strip()
            self._last_default_name = canonical_name(text) if text else None
        except (FileNotFoundError, NotADirectoryError):
            self._last_default_name = None
        except OSError as error:
            message = f"cannot be read ({error.strerror}), and counts as it was; correct that"
            return self._last_default_name, [Problem(str(path), "default_name", message)]
        except (UnicodeDecodeError, InvalidName) as error:
            message = f"must hold one host name, the default certificate's ({error}); write it anew"
            return None, [Problem(str(path), "default_name", message)]
        return self._last_default_name, []

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


def _entry(pair: Pair, judgement: Judgement) -> CertifiedKey:
    leaf = pair.certificate
    paths = pair.paths
    if len(paths) > MAX_PATHS:  # of whom the key is wanted should find it among them
        keys = pair.key_paths[: MAX_PATHS // 2]
        others = [one for one in paths if one not in keys]
        paths = (*others[: MAX_PATHS - len(keys)], *keys)
    return CertifiedKey(
        fingerprint=leaf.fingerprint,
        names=leaf.names,
        addresses=leaf.addresses,
        key_type=leaf.key_type,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        self_signed=leaf.self_signed,
        trusted_from=judgement.trusted_from,
        trusted_until=judgement.trusted_until,
        leaf=leaf.der,
        chain=judgement.chain,
        key=pair.key.der,
        paths=paths if all(map(str.isascii, paths)) else tuple(map(_utf8, paths)),
    )


def _utf8(path: str) -> str:
    """A path that can be sent: bytes of a file name that are not UTF-8 (lone surrogates here) become escapes."""
    return path if path.isascii() else path.encode(errors="backslashreplace").decode()
