"""One key, one value or several: what certificates, keys and names mostly have one of, and sometimes many."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Multimap(Generic[K]):
    """Strings by key. A key's only value costs no set, which for 100,000 keys are 20 MB."""

    def __init__(self) -> None:
        self._values: dict[K, str | set[str]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def add(self, key: K, value: str) -> None:
        """Let `key` have this value too."""
        held = self._values.get(key)
        if held is None:
            self._values[key] = value
        elif isinstance(held, set):
            held.add(value)
        elif held != value:
            self._values[key] = {held, value}

    def discard(self, key: K, value: str) -> None:
        """Take the value from `key`, which is gone with its last one."""
        held = self._values.get(key)
        if isinstance(held, set):
            held.discard(value)
            if len(held) == 1:
                self._values[key] = held.pop()
        elif held == value:
            del self._values[key]

    def sorted(self, key: K) -> tuple[str, ...]:
        """The key's values in order; none where the key is unknown."""
        held = self._values.get(key)
        if held is None:
            return ()
        return tuple(sorted(held)) if isinstance(held, set) else (held,)

    def count(self, key: K) -> int:
        """How many values the key has."""
        held = self._values.get(key)
        return 0 if held is None else len(held) if isinstance(held, set) else 1
