"""What `serve` says once it accepts connections: what listens where, what is served, and what to do next.

On a terminal a panel, elsewhere the same as plain lines; with JSON logs one log entry, since stderr is then read by a
machine.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from admin.text import count, plain
from admin.version import version
from certstore.catalogue import CERTIFICATES
from config.addresses import TcpAddress, parse_tcp
from config.model import WELCOME, Config, ListenerConfig

log = logging.getLogger("snigate.serve")

NAMES = 4  # of the default certificate that are shown
_EVERY_ADDRESS = (None, "::", "0.0.0.0")  # noqa: S104 - compared, not bound


@dataclass(frozen=True)
class Ready:
    """What is known when the first worker accepts."""

    listeners: Mapping[str, Sequence[str]]  # the addresses of each listener, as bound
    admin: Mapping[str, str]  # "admin" and, where configured, "metrics"
    certificates: int
    problems: str  # what cannot be used, as admin.troubles counts it
    waiting: int  # files with a certificate that lacks its key
    default: str | None  # fingerprint of the default certificate
    default_names: Sequence[str]
    uncovered: str | None = None  # the name that it is to be for and is not
    code: str = ""  # signs in to the console, once; shown on a terminal alone, since a journal keeps what it is told


def announce(config: Config, ready: Ready) -> None:
    """Tell the operator, on stderr."""
    if config.log.format == "json":
        log.info("ready", extra={"fields": _fields(config, ready)})
        return
    if sys.stderr.isatty():
        _panel(config, ready)
        return
    for name, texts in _facts(config, ready):
        for text in texts:
            sys.stderr.write(f"{name}: {text}\n")
    sys.stderr.flush()


def _panel(config: Config, ready: Ready) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, texts in (*_facts(config, ready), *_way_in(ready)):
        style = {"problems": "red", "without key": "yellow"}.get(name, "")
        grid.add_row(name, Text("\n".join(texts), style=style))
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    console.print(Panel(grid, title=Text(f"snigate {version()} is ready"), border_style="green", expand=False))


def _way_in(ready: Ready) -> list[tuple[str, list[str]]]:
    """Where to sign in. What is behind the "#" stays in the browser."""
    return [("console", [f"http://{_reachable(ready.admin['admin'])}/sign-in#{ready.code}"])] if ready.code else []


def _facts(config: Config, ready: Ready) -> list[tuple[str, list[str]]]:
    """Names and lines, in the order in which they are shown; every line is safe to show."""
    found = [
        ("listens", [line for one in config.listeners for line in _listener(one, ready.listeners.get(one.name, ()))]),
        ("certificates", [f"{ready.certificates} in {', '.join(map(str, _directories(config)))}"]),
    ]
    if ready.problems:
        found.append(("problems", [f"{ready.problems} cannot be used; 'snigate check' says why"]))
    if ready.waiting:
        found.append(("without key", [f"{count(ready.waiting, 'certificate file')}; 'snigate check' names them"]))
    if ready.default is not None:
        names = ", ".join(ready.default_names[:NAMES]) or "no name"
        if len(ready.default_names) > NAMES:
            names += f" and {count(len(ready.default_names) - NAMES, 'other name')}"
        line = f"{ready.default[:16]} for {names}"
        if ready.uncovered is not None and config.certificates.default is not None:
            line += f"; no certificate covers {ready.uncovered} (certificates.default)"
        found.append(("default", [line]))
    found.append(("admin", [f"http://{_reachable(ready.admin['admin'])}/"]))
    if "metrics" in ready.admin:
        found.append(("metrics", [f"http://{_reachable(ready.admin['metrics'])}/metrics"]))
    found.append(("next", _next(config, ready)))
    return [(name, [plain(text) for text in texts]) for name, texts in found]


def _fields(config: Config, ready: Ready) -> dict[str, object]:
    """The same for machines."""
    return {
        "service.version": version(),
        "snigate.listeners": [
            {"name": one.name, "addresses": list(ready.listeners.get(one.name, ())), "backend": one.target}
            for one in config.listeners
        ],
        "snigate.admin": ready.admin["admin"],
        "snigate.metrics": ready.admin.get("metrics"),
        "snigate.certificates": ready.certificates,
        "snigate.unusable": ready.problems,
        "snigate.without_key": ready.waiting,
        "snigate.directories": [str(one) for one in _directories(config)],
        "snigate.default": ready.default,
    }


def _listener(one: ListenerConfig, addresses: Sequence[str]) -> list[str]:
    target = "the built-in welcome page" if one.backend == WELCOME else one.target
    notes = [_mail(one)] if one.is_mail else []
    if one.routes:
        notes.append(count(len(one.routes), "route"))
    rest = f" ({', '.join(notes)})" if notes else ""
    return [f"{one.name} on {address} -> {target}{rest}" for address in addresses]


def _mail(one: ListenerConfig) -> str:
    how = "by STARTTLS" if one.tls == "starttls" else "at once"
    return f"{one.protocol.upper()}, TLS {how}{', or plain text' if one.lets_plain_text_through else ''}"


def _directories(config: Config) -> tuple[Path, ...]:
    return (config.server.state_directory / CERTIFICATES, *config.certificates.directories)


def _next(config: Config, ready: Ready) -> list[str]:
    lines = [f"put certificates and keys into {config.server.state_directory / CERTIFICATES}"]
    for one in config.listeners:
        addresses = ready.listeners.get(one.name, ())
        if addresses and not one.redirects:
            where = _reachable(addresses[0])
            web = one.protocol == "http" or one.backend == WELCOME
            starttls = f"-starttls {one.protocol} " if one.tls == "starttls" else ""
            lines.append(f"curl -k https://{where}/" if web else f"openssl s_client {starttls}-connect {where}")
            break
    return lines


def _reachable(address: str) -> str:
    """An address to connect to: every address becomes this machine's own."""
    parsed = parse_tcp(address)
    return str(TcpAddress("localhost", parsed.port)) if parsed.host in _EVERY_ADDRESS else address
