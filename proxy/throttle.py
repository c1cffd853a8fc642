"""Complaints that a stranger can cause are made at most once in a while."""

from __future__ import annotations


class Throttle:
    """Lets something happen at most once in `seconds`, and counts how often it did not."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = float("-inf")
        self._held_back = 0

    def allows(self, now: float) -> bool:
        """Whether it may happen now, in the same clock's seconds each time. If so, the wait begins anew."""
        if now < self._next:
            self._held_back += 1
            return False
        self._next = now + self._seconds
        return True

    def held_back(self) -> int:
        """How often it was not allowed since the last call."""
        count, self._held_back = self._held_back, 0
        return count
