"""The certificate directories as the commands see them: read once, nothing written, no server needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from admin.settings import certificate_settings
from certstore.catalogue import CERTIFICATES, Catalogue, Snapshot
from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.inventory import UNREADABLE_DIRECTORY, Problem
from certstore.load import FileRejected, RejectReason, parse_file
from certstore.names import wildcard_of
from certstore.preference import NO_PREFERENCE, Preference
from certstore.ranking import Order
from certstore.selector import Selector
from config.model import Config, ListenerConfig
from proxy.listener_selector import preference_of


@dataclass(frozen=True)
class Reading:
    """What the directories hold at `now` (Unix seconds), ready to be asked."""

    config: Config
    snapshot: Snapshot
    index: Index
    selector: Selector
    now: float

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Files and directories with a problem. That `<state>/certs` is not there before the first start is none."""
        own = self.config.server.state_directory / CERTIFICATES
        return tuple(
            one
            for one in self.snapshot.problems
            if one.reason != UNREADABLE_DIRECTORY or one.path != str(own) or not _is_missing(own)
        )

    @property
    def certificates(self) -> tuple[CertifiedKey, ...]:
        """Every certificate, the one made at first start included."""
        return (*self.index, *((self.snapshot.made,) if self.snapshot.made is not None else ()))

    @property
    def default(self) -> str | None:
        """Fingerprint of the certificate that serves where no other is for the name."""
        candidates = self.selector.explain(None)
        return candidates[0].selection.certificate.fingerprint if candidates else None

    def waiting_for_key(self, host: str) -> list[str]:
        """The files with a certificate for a canonical host name that lacks its private key."""
        wanted = {host, wildcard_of(host)}
        found = []
        for path in sorted(self.snapshot.waiting):
            with contextlib.suppress(OSError, FileRejected):
                held = parse_file(Path(path).read_bytes(), unlock=_locked)
                if any(not wanted.isdisjoint(one.names) for one in held.certificates):
                    found.append(path)
        return found

    def selector_in(self, order: Order) -> Selector:
        """A selector over the same certificates in another order."""
        return _selector(self.index, self.snapshot, order, self.now)

    def selector_for(self, listener: ListenerConfig | None) -> Selector:
        """The selector for a listener's clients; for anybody's, where none is given or it prefers nothing."""
        preference = preference_of(listener) if listener is not None else None
        if preference is None:
            return self.selector
        return _selector(self.index, self.snapshot, self.config.certificates.order, self.now, preference)


def read(config: Config) -> Reading:
    """Look at every certificate directory, and verify every chain."""
    now = time.time()
    snapshot = Catalogue(certificate_settings(config)).refresh(now, time.monotonic())
    index = Index()
    for _ in index.apply(snapshot.certificates.values()):
        pass
    return Reading(config, snapshot, index, _selector(index, snapshot, config.certificates.order, now), now)


def _locked(data: bytes, passphrases: Sequence[bytes]) -> NoReturn:
    raise FileRejected(RejectReason.PASSPHRASE_NEEDED, "is not opened")


def _is_missing(path: Path) -> bool:
    """Whether nothing is there; where that cannot be seen, something may be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _selector(
    index: Index, snapshot: Snapshot, order: Order, now: float, preference: Preference = NO_PREFERENCE
) -> Selector:
    selector = Selector(index, order, lambda: now, preference)
    selector.set_default(snapshot.default_name, snapshot.made)
    return selector
