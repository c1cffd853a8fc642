"""Which certificates compete for a name: those whose verification decides which one a client is shown."""

from __future__ import annotations

from collections import Counter

from certstore.certificate import Certificate
from certstore.names import wildcard_of


class Rivals:
    """How many certificates carry each name, exactly or through a wildcard."""

    def __init__(self) -> None:
        self._holders: Counter[str] = Counter()  # by name and address
        self._covered: Counter[str] = Counter()  # exact names by the wildcard that would cover them

    def add(self, certificate: Certificate) -> None:
        """Count a certificate in."""
        for name in certificate.names:
            self._holders[name] += 1
            if (wildcard := _wildcard(name)) is not None:
                self._covered[wildcard] += 1
        for address in certificate.addresses:
            self._holders[address] += 1

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
        if any(self._holders[one] > 1 for one in (*certificate.names, *certificate.addresses)):
            return True
        return any(name in self._covered or _wildcard(name) in self._holders for name in certificate.names)


def _wildcard(name: str) -> str | None:
    """What would cover an exact name."""
    return None if name.startswith("*.") else wildcard_of(name)


def _take_one(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
