"""Certificates of every level, in pairs, dropped into a directory: who should win is written down beside them.

For each two kinds of certificate there is a host of its own, www.<better>-<worse>.example.com, that both cover: kinds
"1" to "8" are the levels, with "4-future" and "8-future" for certificates that are not valid yet. The worse of two
valid ones always ends later, and of two kinds at odds one is RSA and the other ECDSA, alternating, so that nothing but
the level can decide.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from certstore.ranking import Level, Order
from tests.support.pki import DAY, Authority, Pair, self_signed

KINDS: dict[Order, tuple[str, ...]] = {
    "kerio": ("1", "2", "3", "4", "4-future", "5", "6", "7", "8", "8-future"),
    "unexpired-first": ("1", "2", "3", "5", "6", "7", "4", "4-future", "8", "8-future"),
}
ORDERS: tuple[Order, ...] = ("kerio", "unexpired-first")
DEFAULT_NAME = "default.example.com"
_QUALITY = ("trusted", "self-signed", "unknown CA", "expired")


class Expected(NamedTuple):
    """What a client that asks for `host` is to be shown."""

    host: str
    fingerprint: str
    level: Level


class Contest(NamedTuple):
    """Two kinds' certificates for one host."""

    host: str
    pairs: dict[str, Pair]  # by kind


class NineLevels:
    """Makes and writes the certificates; `root` is the only one that is to be trusted."""

    def __init__(self, directory: Path) -> None:
        self.root = Authority.make("Root of the test")
        self._issuing = Authority.make("Issuing", self.root)
        self._unknown = Authority.make("Unknown CA")
        self.default = self._issuing.issue(DEFAULT_NAME)
        self.default.write(directory, "default")
        self.contests: list[Contest] = []
        for number, kinds in enumerate(combinations(KINDS["kerio"], 2)):
            site = f"{kinds[0]}-{kinds[1]}.example.com"
            contest = Contest(f"www.{site}", {})
            for place, kind in enumerate(kinds):
                key_type = "rsa-2048" if (number + place) % 2 else "ecdsa-p256"
                contest.pairs[kind] = self._make(kind, site, key_type, lifetime=(30 + 30 * place) * DAY)
                contest.pairs[kind].write(directory / kind, site)
            self.contests.append(contest)

    def expected(self, order: Order) -> list[Expected]:
        """Every contest's winner in this order, and the default for whoever asks for none of them."""
        found = []
        for contest in self.contests:
            winner = min(contest.pairs, key=KINDS[order].index)
            found.append(Expected(contest.host, contest.pairs[winner].fingerprint, Level(int(winner[0]))))
        found += [
            Expected("unknown.example.net", self.default.fingerprint, Level.DEFAULT),
            Expected(DEFAULT_NAME, self.default.fingerprint, Level.TRUSTED_EXACT),
        ]
        return found

    def _make(self, kind: str, site: str, key_type: str, lifetime: float) -> Pair:
        place = (int(kind[0]) - 1) % 4
        name = f"www.{site}" if int(kind[0]) <= 4 else f"*.{site}"
        not_before, not_after = -DAY, lifetime
        if _QUALITY[place] == "expired":
            not_before, not_after = (DAY, lifetime + 365 * DAY) if kind.endswith("future") else (-90 * DAY, -DAY)
        if _QUALITY[place] == "self-signed":
            return self_signed(name, not_before=not_before, not_after=not_after, key_type=key_type)
        issuer = self._unknown if _QUALITY[place] == "unknown CA" else self._issuing
        return issuer.issue(name, not_before=not_before, not_after=not_after, key_type=key_type)
