"""What a sort of clients does: kinds of connections with what snigate is to count each as."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from soak.caller import Caller
from soak.record import Visit

Make = Callable[[Caller, Visit], None]  # raises OSError or Surprise where something is not as it should be


class Kind(NamedTuple):
    """One kind. `weight`: how often it comes, beside the others of its sort."""

    make: Make
    listeners: tuple[str, ...]
    weight: int
    outcome: str = "served"
    reason: str = ""

    def visit(self, caller: Caller) -> Visit:
        """A connection that is yet to be made."""
        return Visit(self.make.__name__, caller.chance.choice(self.listeners), self.outcome, self.reason)


def failing(make: Make, listeners: tuple[str, ...], weight: int, reason: str) -> Kind:
    """A kind whose handshake comes to nothing, for this reason."""
    return Kind(make, listeners, weight, "handshake_failed", reason)
