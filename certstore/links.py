"""What links lead through, so that an event somewhere else is known to concern the file that a link stands for.

Only what lies in the certificate directories is of interest, since there are no events for anything else. A link to
`..data/tls.crt` where `..data` leads to `..2024` depends on two names in its own directory and on one in `..2024`;
each of them may be replaced, and the directories between may be moved away.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import lru_cache

from certstore.multimap import Multimap

MAX_HOPS = 40  # as Linux has it
MAX_OUTSIDE = 1000  # links out of the directories that are named


class Links:
    """Links to files, and the paths (themselves without links) that they depend on below the roots."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = tuple(os.path.realpath(root).rstrip("/") + "/" for root in roots)
        self._dependents: Multimap[str] = Multimap()  # links by each name they depend on
        self._passed: set[str] = set()  # directories on their ways
        self._outside: dict[str, None] = {}

    @property
    def outside(self) -> Collection[str]:
        """Up to MAX_OUTSIDE links to files outside the roots."""
        return self._outside

    def dependents(self, path: str) -> tuple[str, ...]:
        """The links that a change at this path concerns."""
        return self._dependents.sorted(path)

    def passes(self, path: str) -> bool:
        """Whether links lead through this directory, or would if it were there."""
        return path in self._passed

    def follow(self, paths: Collection[str]) -> None:
        """Learn what these links depend on. What others depended on before is not unlearned, which does no harm."""
        real = lru_cache(1 << 16)(os.path.realpath)
        for path in paths:
            self._follow(path, real(os.path.dirname(path)))  # noqa: PTH120 - strings, for speed

    def _follow(self, path: str, directory: str) -> None:
        """Go a link's way name by name, as the operating system does."""
        here, names = directory, [os.path.basename(path)]  # noqa: PTH119
        for _ in range(MAX_HOPS):
            while names:
                name = names.pop()
                if name in ("", "."):
                    continue
                if name == "..":
                    here = os.path.dirname(here)  # noqa: PTH120
                    continue
                at = f"{here}/{name}" if here != "/" else f"/{name}"
                try:
                    target = os.readlink(at)  # noqa: PTH115
                except OSError:  # no link, or nothing there
                    if names:
                        self._pass(at)
                    elif f"{here}/".startswith(self._roots):
                        self._depend(at, path)
                    elif len(self._outside) < MAX_OUTSIDE:
                        self._outside[path] = None
                        self._dependents.add(at, path)
                    here = at
                    continue
                if at != path:
                    self._depend(at, path)
                names += reversed(target.split("/"))
                if target.startswith("/"):
                    here = "/"
                break
            else:
                return

    def _depend(self, at: str, path: str) -> None:
        if at != path and at.startswith(self._roots):
            self._dependents.add(at, path)

    def _pass(self, at: str) -> None:
        if at.startswith(self._roots):
            self._passed.add(at)
