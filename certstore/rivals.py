"""Which certificates compete for a name: those whose verification decides which one a client is shown."""

from __future__ import annotations

from certstore.certificate import Certificate
from certstore.names import wildcard_of


class Rivals:
    """How many certificates carry each name, exactly or through a wildcard."""

    def __init__(self) -> None:
        self._holders: dict[str, int] = {}  # by name and address
        self._covered: dict[str, int] = {}  # exact names by the wildcard that would cover them

    def add(self, certificate: Certificate) -> None:
        """Count a certificate in."""
        for name in certificate.names:
            _add_one(self._holders, name)
            if (wildcard := _wildcard(name)) is not None:
                _add_one(self._covered, wildcard)
        for address in certificate.addresses:
            _add_one(self._holders, address)

    def discard(self, certificate: Certificate) -> None:
        """Count a certificate out again that was counted in."""
        for name in certificate.names:
            _take_one(self._holders, name)
            if (wildcard := _wildcard(name)) is not None:
                _take_one(self._covered, wildcard)
        for address in certificate.addresses:
            _take_one(self._holders, address)

    def has(self, certificate: Certificate) -> bool:
        """Whether a certificate that was counted in shares a name with another."""
        holders, covered = self._holders, self._covered
        for name in certificate.names:
            if holders[name] > 1 or name in covered or _wildcard(name) in holders:
                return True
        return any(holders[address] > 1 for address in certificate.addresses)


def _wildcard(name: str) -> str | None:
    """What would cover an exact name."""
    return None if name.startswith("*.") else wildcard_of(name)


def _add_one(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1  # half of what a Counter takes


def _take_one(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
