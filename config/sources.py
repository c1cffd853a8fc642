"""Files to one tree: TOML is read, `include` followed, and all files are merged, each value with the file that says it.

Tables merge, lists of tables append, and anything else may be given once over all files: which of two values would win
is not something an operator should have to remember, so the second is a problem that names both files.
"""

from __future__ import annotations

import glob
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.errors import Problem
from config.words import found, quoted

KeyPath = tuple[str | int, ...]

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass
class Tree:
    """The merged TOML of a configuration: `values` without the key `include`, and the file of every key path.

    `complete` is False when a file could not be read: then nothing can be said about what is not there.
    """

    main: Path
    values: dict[str, Any] = field(default_factory=dict)
    files: dict[KeyPath, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True

    def file_of(self, path: KeyPath) -> Path:
        """The file that says the value at this path, or the nearest table around it."""
        while path not in self.files and path:
            path = path[:-1]
        return self.files.get(path, self.main)

    def add(self, values: dict[str, Any], file: Path) -> None:
        """Merges another file's values into the tree; what is given twice keeps its first value."""
        self._merge(self.values, values, (), file)

    def _merge(self, target: dict[str, Any], addition: dict[str, Any], path: KeyPath, file: Path) -> None:
        for key, value in addition.items():
            here = (*path, key)
            if key not in target:
                target[key] = self._copy(value, here, file)
            elif isinstance(target[key], dict) and isinstance(value, dict):
                self._merge(target[key], value, here, file)
            elif _append_tables(target[key], value):
                for table in value:
                    target[key].append(self._copy(table, (*here, len(target[key])), file))
            else:
                message = f"is already given in {self.file_of(here)}; keep one of the two"
                self.problems.append(Problem(dotted(here), message, file))

    def _copy(self, value: Any, path: KeyPath, file: Path) -> Any:
        self.files[path] = file
        if isinstance(value, dict):
            return {key: self._copy(item, (*path, key), file) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copy(item, (*path, index), file) for index, item in enumerate(value)]
        return value


def read(main: Path) -> Tree:
    """The tree of a main file and what it includes. Everything that went wrong is in the tree's `problems`."""
    tree = Tree(main)
    values = _parse(main, tree)
    if values is None:
        return tree
    patterns = values.pop("include", [])
    tree.add(values, main)
    for file in _included(patterns, main, tree):
        included = _parse(file, tree)
        if included is None:
            continue
        if included.pop("include", None) is not None:
            message = f"an included file cannot include others; move this to {main}"
            tree.problems.append(Problem("include", message, file))
        tree.add(included, file)
    return tree


def dotted(path: KeyPath, listeners: Mapping[int, str] | None = None) -> str:
    """The key path as text: ("backends", "imap", "servers", 0) is "backends.imap.servers[0]".

    `listeners` has the names to call listeners by: ("listeners", 2, "bind") is "listeners[web].bind".
    """
    text = ""
    for depth, part in enumerate(path):
        if isinstance(part, int):
            called = listeners.get(part, part) if listeners and depth == 1 and path[0] == "listeners" else part
            text += f"[{called}]"
        else:
            shown = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else quoted(part)
            text += f".{shown}" if text else shown
    return text


def _append_tables(first: Any, second: Any) -> bool:
    lists = isinstance(first, list) and isinstance(second, list)
    return lists and bool(first or second) and all(isinstance(item, dict) for item in (*first, *second))


def _parse(file: Path, tree: Tree) -> dict[str, Any] | None:
    text = ""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        message = f"cannot be read ({reason}); correct the path or the permissions"
        tree.problems.append(Problem("", message, file))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        tree.problems.append(Problem(f"line {line}", "is not text in UTF-8; save the file as UTF-8", file))
    except ValueError as error:  # tomllib.TOMLDecodeError, or a number of thousands of digits
        tree.problems.append(_syntax_problem(str(error), text, file))
    except RecursionError:
        tree.problems.append(Problem("", "is nested too deeply to be a configuration", file))
    tree.complete = False
    return None


def _syntax_problem(said: str, text: str, file: Path) -> Problem:
    match = _POSITION.search(said)
    if match is None:
        return Problem("", f"is not valid TOML: {said}", file)
    key = f"line {match[1]}, column {match[2]}" if match[1] else "end of file"
    reason = said[: match.start()]
    if match[1] and (twice := _given_twice(reason, text, int(match[1]))) is not None:
        return Problem(f"line {match[1]}", twice, file)
    return Problem(key, f"is not valid TOML: {reason[:1].lower()}{reason[1:]}", file)


def _given_twice(reason: str, text: str, number: int) -> str | None:
    """The sentence for a key or table that the file has already; tomllib has words for that of its own."""
    line = (text.split("\n")[number - 1 : number] or [""])[0].strip()
    if reason == "Cannot overwrite a value" and "=" in line:
        key = line.partition("=")[0].strip()
        return f"the key {key if key.isprintable() else quoted(key)} is given twice in this table; keep one of the two"
    if reason.startswith("Cannot declare") and line.startswith("["):
        heading = line.partition("#")[0].strip()
        shown = heading if heading.isprintable() else quoted(heading)
        return f"the table {shown} is given twice; put its keys under one heading"
    return None


def _included(patterns: Any, main: Path, tree: Tree) -> list[Path]:
    """The files that the include patterns name, each once, in the order of the patterns and then by name."""
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        message = f'expected a list of file patterns such as ["conf.d/*.toml"], found {found(patterns)}'
        if isinstance(patterns, list):
            message = 'expected a list of file patterns such as ["conf.d/*.toml"], and something in it is not one'
        tree.problems.append(Problem("include", message, main))
        tree.complete = False
        return []
    files: dict[Path, None] = {}
    directory = main.absolute().parent
    for pattern in patterns:
        names = sorted(glob.glob(pattern, root_dir=directory, recursive=True))  # noqa: PTH207 - keeps to dot-file rules
        if not names and not glob.has_magic(pattern):
            tree.complete = False
            message = f"there is no file {directory / pattern}; correct the path or take it out"
            tree.problems.append(Problem("include", message, main))
        files.update(dict.fromkeys(directory / name for name in names))
    return [file for file in files if file != main.absolute()]
