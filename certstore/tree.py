"""From the paths that events name to the files that a scan has to look at, without a walk of everything.

A whole walk says which directories were entered, and under which of their names; events are held against that. What an
event may mean is decided by what is there now, never by what kind of event it was: a path that is a directory, or was
one, has everything below it looked at, any other one the file of that name. Where that is not plain (a link leads to a
directory, or through the directory that changed; a bound was reached) the answer is to walk everything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence

from certstore.links import MAX_OUTSIDE, Links
from certstore.unreadable import LEADS_OUT, TOO_MUCH, TOO_MUCH_OUTSIDE
from certstore.walk import MAX_ENTRIES, Walk

MAX_DIRECTORIES = 64  # that changed at once; for more, a whole walk costs less


class Tree:
    """The directories as the last whole walk found them, and as events have changed them since."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = tuple(roots)
        self._real_roots = tuple(map(os.path.realpath, self._roots))
        self._entered: dict[str, str] | None = None  # by path without links, the path found by; None: not walked yet
        self._entries = 0
        self._links = Links(self._roots)
        self._followed_later: set[str] = set()
        self._to_directories: frozenset[str] = frozenset()  # links
        self._outside: Collection[str] = ()

    @property
    def outside(self) -> Iterable[str]:
        """Files that lie outside, of which there are no events; not all where there are very many."""
        self._follow()
        return (*self._outside, *self._links.outside)

    def adopt(self, walk: Walk, touched: Collection[str] | None) -> None:
        """Take a finished walk of everything for what there is. `touched` files may be others than before."""
        bounded = any(code in (TOO_MUCH, TOO_MUCH_OUTSIDE, LEADS_OUT) for _, code in walk.unreadable)
        self._entered = None if bounded else walk.entered
        self._entries = walk.entries
        self._outside = walk.outside[:MAX_OUTSIDE]
        self._to_directories = frozenset(walk.linked)
        if touched is None:
            self._links = Links(self._roots)
            self._followed_later = set(walk.links)
        else:
            self._followed_later.update(path for path in walk.links if path in touched)
        self._followed_later |= self._to_directories

    def concerned(self, events: Iterable[str], known: Collection[str]) -> set[str] | None:
        """The files to look at after events at these paths, `known` being those known so far; None: walk everything."""
        if self._entered is None:
            return None
        self._follow()
        files: set[str] = set()
        directories: set[str] = set()
        loose: list[tuple[str, str]] = []
        reals: dict[str, str] = {}
        for path in events:
            above, _, name = path.rpartition("/")
            real = reals.get(above) or reals.setdefault(above, os.path.realpath(above))
            if not self._sort(real, name, files, directories, loose):
                return None
        for directory in sorted(directories):
            if not self._look_below(directory, files, known):
                return None
        for real, name in loose:  # in what is new, and was walked now, or is in none of ours
            entered = self._entered.get(real)
            if entered is None:
                if os.path.isdir(real):  # noqa: PTH112
                    return None
            elif f"{real}/{name}" not in self._entered:
                if os.path.isdir(path := f"{entered}/{name}"):  # noqa: PTH112
                    return None
                files.add(path)
        self._followed_later.update(path for path in files if os.path.islink(path))  # noqa: PTH114
        return files

    def _sort(self, real: str, name: str, files: set[str], directories: set[str], loose: list[tuple[str, str]]) -> bool:
        """Put what one event concerns where it belongs; whether that was plain."""
        assert self._entered is not None
        at = f"{real}/{name}"
        dependents = self._links.dependents(at)
        files.update(dependents)
        found = f"{self._entered.get(real, real)}/{name}"
        if at in self._real_roots or self._links.passes(at):
            return False
        if not self._to_directories.isdisjoint((found, *dependents)):
            return False
        if at in self._entered:
            directories.add(at)
            return True
        if name.startswith(".") or self._is_hidden(real):
            return True
        entered = self._entered.get(real)
        if entered is None:
            loose.append((real, name))
        elif not os.path.isdir(path := f"{entered}/{name}"):  # noqa: PTH112
            files.add(path)
        elif os.path.islink(path) or dependents:  # noqa: PTH114
            return False
        else:
            directories.add(at)
        return len(directories) <= MAX_DIRECTORIES

    def _look_below(self, directory: str, files: set[str], known: Collection[str]) -> bool:
        """Look at everything that is or was below a directory; whether that was plain."""
        assert self._entered is not None
        prefix = f"{directory}/"
        gone = [one for one in self._entered if one == directory or one.startswith(prefix)]
        found_by = self._entered.get(directory)
        if found_by is None:
            above, _, name = directory.rpartition("/")
            if above not in self._entered:  # gone with one above it, or found with that one
                return True
            found_by = f"{self._entered[above]}/{name}"
            if found_by in known:  # a file before
                return False
        for one in gone:
            del self._entered[one]
        files.update(path for path in known if path.startswith(f"{found_by}/"))
        if not os.path.isdir(found_by) or os.path.islink(found_by):  # noqa: PTH112, PTH114
            return not os.path.lexists(found_by)
        walk = Walk(self._roots, (found_by,))
        files.update(walk)
        self._entries += walk.entries
        self._entered.update(walk.entered)
        return not (walk.linked or walk.unreadable or self._entries > MAX_ENTRIES)

    def _is_hidden(self, real: str) -> bool:
        """Whether a path lies below a name that no walk enters by itself."""
        root = next((one for one in self._real_roots if real.startswith(f"{one}/")), None)
        return root is not None and "/." in real[len(root) :] and real not in (self._entered or ())

    def _follow(self) -> None:
        if self._followed_later:
            self._links.follow(self._followed_later)
            self._followed_later = set()
