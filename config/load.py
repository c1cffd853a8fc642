"""From files to a checked `Config`, or to every problem at once.

An operator who has to restart a check after each correction loses patience, so nothing stops at the first problem. Each
table is validated alone, which keeps key paths true whatever happens to its neighbours. What is wrong in a table is
reported and taken out, a required key that is missing then gets a stand-in, and the table is validated again: so there
is always a whole `Config` to run the checks over that look at several tables. A finding at or below a key that was
already reported follows from a stand-in or a gap, and is dropped. A `Config` with stand-ins never leaves this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from config.addresses import TcpAddress
from config.checks import inconsistencies
from config.errors import ConfigError, Problem
from config.failures import failures, unknown_key, unknown_table
from config.fields import NAME_RULE, WELCOME, Origin, is_name
from config.model import (
    AdminConfig,
    BackendConfig,
    CertificatesConfig,
    Config,
    ListenerConfig,
    LogConfig,
    MetricsConfig,
    RouteConfig,
    ServerConfig,
    Table,
    TlsConfig,
)
from config.sources import KeyPath, Tree, dotted, read
from config.words import found, quoted

FILE_NAME = "snigate.toml"
STATE_DIRECTORY = "snigate-data"  # beside the main file
SYSTEM_FILE = Path("/etc/snigate/snigate.toml")

_Model = TypeVar("_Model", bound=Table)

_SECTIONS: Mapping[str, type[Table]] = {
    "certificates": CertificatesConfig,
    "tls": TlsConfig,
    "server": ServerConfig,
    "admin": AdminConfig,
    "metrics": MetricsConfig,
    "log": LogConfig,
}
_HEADINGS = {name: f"[{name}]" for name in _SECTIONS} | {"backends": "[backends.NAME]", "listeners": "[[listeners]]"}
_TOP_KEYS = ("include", *_HEADINGS)


def find(explicit: Path | None, directory: Path) -> Path | None:
    """The file to load: `explicit`, else snigate.toml in `directory`, else the system's, else None (defaults).

    A file that exists but cannot be looked at is still the one: leaving it out silently would serve something else.
    """
    if explicit is not None:
        return explicit
    return next((file for file in (directory / FILE_NAME, SYSTEM_FILE) if _exists(file)), None)


def load_or_defaults(explicit: Path | None, directory: Path | None = None) -> Config:
    """The configuration of the file that `find` finds, else the built-in defaults with state in `directory`.

    `directory` is the working directory when absent. Raises ConfigError.
    """
    directory = directory or Path.cwd()
    file = find(explicit, directory)
    return Config.defaults(directory) if file is None else load(file)


def likely_state_directory(explicit: Path | None) -> Path:
    """The state directory that a configuration with problems most likely means: what it says, else the default."""
    file = find(explicit, Path.cwd())
    if file is None:
        return Path.cwd() / STATE_DIRECTORY
    tree = read(file.absolute())
    table = tree.values.get("server")
    said = table.get("state_directory") if isinstance(table, dict) else None
    path = ("server", "state_directory")
    return tree.file_of(path if said else ()).parent / (said if isinstance(said, str) else STATE_DIRECTORY)


def load(path: Path) -> Config:
    """The configuration of a file and what it includes; raises ConfigError with all problems."""
    return checked(read(path.absolute()))


def checked(tree: Tree) -> Config:
    """The configuration of files already read; raises ConfigError with all problems, those of reading included."""
    checker = _Checker(tree)
    config = checker.config()
    if tree.complete:
        for path, message in inconsistencies(config):
            checker.report_unless_known(path, message)
    if tree.problems or checker.problems:
        raise ConfigError((*tree.problems, *checker.problems))
    listener_files = tuple(tree.file_of(("listeners", index)) for index in range(len(config.listeners)))
    return config.from_files(tree.main, listener_files)


class _Checker:
    """Turns the tables of a tree into models, and collects what is wrong with them."""

    def __init__(self, tree: Tree) -> None:
        self.problems: list[Problem] = []
        self._tree = tree
        self._wrong: set[KeyPath] = set()
        self._labels = _listener_labels(tree.values.get("listeners"))
        self._homes = _homes()

    def config(self) -> Config:
        values = self._tree.values
        for key, value in values.items():
            if key not in _TOP_KEYS:
                is_table = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict))
                message = unknown_table(key, _HEADINGS) if is_table else unknown_key(key, _TOP_KEYS, self._homes)
                self._report((key,), message)
        sections = {name: self._section(name, model) for name, model in _SECTIONS.items()}
        return Config(
            **{name: section for name, section in sections.items() if section is not None},
            backends=self._backends(values.get("backends", {})),
            listeners=self._listeners(values.get("listeners")),
        )

    def report_unless_known(self, path: KeyPath, message: str) -> None:
        """Reports a finding, unless its key or something around it is already reported."""
        if not any(path[: end + 1] in self._wrong for end in range(len(path))):
            self._report(path, message)

    def _report(self, path: KeyPath, message: str, *, covers: bool = True) -> None:
        """Reports a finding; unless it `covers` its key, more may be found there."""
        if covers:
            self._wrong.add(path)
        self.problems.append(Problem(dotted(path, self._labels), message, self._tree.file_of(path)))

    def _section(self, name: str, model: type[Table]) -> Table | None:
        if name == "metrics" and name not in self._tree.values:
            return None
        return self._model(model, (name,), self._table((name,), self._tree.values.get(name, {}), f"[{name}]"))

    def _backends(self, tables: Any) -> dict[str, BackendConfig]:
        backends = {}
        for name, table in self._table(("backends",), tables, "[backends.NAME] for each backend").items():
            path = ("backends", name)
            if name == WELCOME:
                self._report(
                    path, f'"{WELCOME}" is the built-in backend and cannot be declared; use another name', covers=False
                )
            elif not is_name(name):
                self._report(path, f"{quoted(name)} is not a name; use {NAME_RULE}", covers=False)
            values = self._table(path, table, f"[{dotted(path)}]")
            if "name" in values:
                self._report((*path, "name"), "unknown key 'name'; a backend's name is that of its table")
            backend = self._model(BackendConfig, path, {**values, "name": name})
            if name != WELCOME:
                backends[name] = backend
        return backends

    def _listeners(self, tables: Any) -> list[ListenerConfig]:
        path = ("listeners",)
        if tables is None and not self._tree.complete:
            return []
        if tables is None or tables == []:
            example = 'name = "web", bind = [":443"] and backend = "127.0.0.1:8080"'
            self._report(path, f"there is no listener; add a table [[listeners]] with {example}")
            return []
        listeners = []
        for index, table in enumerate(self._list(path, tables)):
            here = (*path, index)
            values = self._table(here, table, "[[listeners]]")
            routes = self._routes((*here, "routes"), values.get("routes", []))
            listeners.append(self._model(ListenerConfig, here, {**values, "routes": routes}))
        return listeners

    def _routes(self, path: KeyPath, tables: Any) -> list[RouteConfig]:
        return [
            self._model(RouteConfig, (*path, index), self._table((*path, index), table, "[[listeners.routes]]"))
            for index, table in enumerate(self._list(path, tables))
        ]

    def _table(self, path: KeyPath, value: Any, header: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._report(path, f"expected a table, found {found(value)}; write it as {header}")
        return {}

    def _list(self, path: KeyPath, value: Any) -> list[Any]:
        if isinstance(value, list):
            return value
        header = "listeners.routes" if path[-1] == "routes" else "listeners"
        self._report(path, f"expected a list of tables, found {found(value)}; write [[{header}]], with two brackets")
        return []

    def _model(self, model: type[_Model], path: KeyPath, table: dict[str, Any]) -> _Model:
        values = dict(table)
        files = {key: self._tree.file_of((*path, key)) for key in model.model_fields}
        if model is ServerConfig and "state_directory" not in values:
            values["state_directory"] = STATE_DIRECTORY
            files["state_directory"] = self._tree.main
        while True:
            try:
                return model.model_validate(values, context=Origin(files))
            except ValidationError as error:
                wrong = list(failures(error, model, _operator_keys(model), self._homes))
                for where, message in wrong:
                    self.report_unless_known((*path, *where), message)
                filled_in = _take_out(values, [where for where, _ in wrong], model)
                self._wrong |= {(*path, key) for key in filled_in}


_STAND_INS: Mapping[str, Any] = {
    "name": "unnamed",
    "bind": (TcpAddress(None, 0),),
    "listen": TcpAddress(None, 0),
    "backend": WELCOME,
    "servers": (TcpAddress("stand-in.invalid", 1),),
    "hosts": ("stand-in.invalid",),
}


def _take_out(values: dict[str, Any], wrong: list[KeyPath], model: type[Table]) -> set[str]:
    """Takes the wrong keys out of a table, and of a list only its wrong entries; returns the keys with stand-ins."""
    filled_in = set()
    for key in {str(where[0]) for where in wrong}:
        entries = {where[1] for where in wrong if where[0] == key and len(where) > 1}
        value = values.pop(key, None)
        kept = [entry for index, entry in enumerate(value) if index not in entries] if value and entries else []
        if kept:
            values[key] = kept
        elif key in _STAND_INS and key in model.model_fields:
            values[key] = _STAND_INS[key]
            filled_in.add(key)
    return filled_in


def _operator_keys(model: type[Table]) -> tuple[str, ...]:
    return tuple(key for key in model.model_fields if (model, key) != (BackendConfig, "name"))


def _homes() -> dict[str, str]:
    headers: list[tuple[str, type[Table]]] = [(f"[{name}]", model) for name, model in _SECTIONS.items()]
    headers += [("[backends.NAME]", BackendConfig), ("[[listeners]]", ListenerConfig)]
    headers += [("[[listeners.routes]]", RouteConfig)]
    homes: dict[str, str] = {}
    for header, model in headers:
        for key in _operator_keys(model):
            homes[key] = f"{homes[key]} or {header}" if key in homes else header
    return homes | {"include": "the main file, above its first table"}


def _listener_labels(tables: Any) -> dict[int, str]:
    """What to call each listener in key paths: its name, where it is one and no other listener has it."""
    if not isinstance(tables, list):
        return {}
    names = [table.get("name") if isinstance(table, dict) else None for table in tables]
    return {
        index: name
        for index, name in enumerate(names)
        if isinstance(name, str) and is_name(name) and names.count(name) == 1
    }


def _exists(file: Path) -> bool:
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
