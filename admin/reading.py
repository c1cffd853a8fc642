"""The certificate directories as the commands see them: read once, nothing written, no server needed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from admin.settings import certificate_settings
from certstore.catalogue import CERTIFICATES, Catalogue, Snapshot
from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.inventory import UNREADABLE_DIRECTORY, Problem
from certstore.ranking import Order
from certstore.selector import Selector
from config.model import Config


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

    def selector_in(self, order: Order) -> Selector:
        """A selector over the same certificates in another order."""
        return _selector(self.index, self.snapshot, order, self.now)


def read(config: Config) -> Reading:
    """Look at every certificate directory, and verify every chain."""
    now = time.time()
    snapshot = Catalogue(certificate_settings(config)).refresh(now, time.monotonic())
    index = Index()
    for _ in index.apply(snapshot.certificates.values()):
        pass
    return Reading(config, snapshot, index, _selector(index, snapshot, config.certificates.order, now), now)


def _is_missing(path: Path) -> bool:
    """Whether nothing is there; where that cannot be seen, something may be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _selector(index: Index, snapshot: Snapshot, order: Order, now: float) -> Selector:
    selector = Selector(index, order, lambda: now)
    selector.set_default(snapshot.default_name, snapshot.made)
    return selector
