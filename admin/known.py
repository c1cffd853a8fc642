"""What those who change certificates know of those there are: from the files, or from control's replica."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from admin.reading import Reading
from admin.settings import certificate_settings
from certstore.handover import Situation
from certstore.trust import TrustStore
from config.model import Config

MAX_PASSPHRASES = 64 << 10  # bytes of one file


@dataclass(frozen=True)
class Known:
    """At one moment. `passphrases` are those of the configuration's files, read when they are wanted."""

    situation: Situation
    trust: TrustStore
    passphrases: Callable[[], Sequence[bytes]] = tuple


def known_by(reading: Reading) -> Known:
    """What the directories held when they were read."""
    snapshot = reading.snapshot
    order = reading.config.certificates.order
    situation = Situation(reading.index, order, snapshot.default_name, snapshot.made, lambda: reading.now)
    return known_with(situation, reading.config)


def known_with(situation: Situation, config: Config) -> Known:
    """The same with what is served from somewhere else."""
    trust = TrustStore.load(certificate_settings(config).roots)
    return Known(situation, trust, partial(_passphrases, config.certificates.passphrase_files))


def _passphrases(files: Sequence[Path]) -> list[bytes]:
    """One a line, of the files that can be read."""
    found: dict[bytes, None] = {}
    for path in files:
        with contextlib.suppress(OSError), path.open("rb") as file:
            found.update((line, None) for line in file.read(MAX_PASSPHRASES).splitlines() if line)
    return list(found)
