"""`snigate serve`, `status` and `reload`: the running server."""

from __future__ import annotations

import socket
import time
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import typer

from admin import logs
from admin.answers import Listener, Process, Reloaded, Status
from admin.commands.output import Cell, ConfigOption, JsonOption, facts, fail, load, say, say_json, table
from admin.panel import announce
from admin.serve import serve as run_server
from admin.state import CONTROL_SOCKET, RELOAD, StateError
from admin.text import count
from certstore.errors import CertstoreError
from certstore.unix_path import socket_address
from config.errors import ConfigError
from config.load import likely_state_directory, load_or_defaults
from proxy.generation import PlanError
from proxy.privileges import UserError
from proxy.sockets import BindError

TIMEOUT = 10.0  # seconds
RELOAD_TIMEOUT = 290.0  # seconds: for a reload on its way, and the one after it

_Answer = TypeVar("_Answer", Status, Reloaded)


def serve(config: ConfigOption = None) -> None:
    """Run until stopped."""
    loaded = load(config)
    logs.configure(loaded.log)
    explicit, directory = config.absolute() if config is not None else None, Path.cwd()
    try:
        status = run_server(
            loaded, lambda ready: announce(loaded, ready), lambda: load_or_defaults(explicit, directory)
        )
    except (UserError, StateError, BindError, PlanError, CertstoreError) as error:
        fail(str(error))
    raise typer.Exit(status)


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how the running server is: processes, listeners, certificate store."""
    found = ask(load(config).server.state_directory / CONTROL_SOCKET)
    if as_json:
        say_json(found)
    else:
        _show(found)
    raise typer.Exit(0 if found.ready else 1)


def reload(config: ConfigOption = None) -> None:
    """Take in a changed configuration; wait for the outcome."""
    try:
        path = load_or_defaults(config).server.state_directory / CONTROL_SOCKET
    except ConfigError as error:  # the server has to hear of it all the same: it logs and counts what it refuses
        path = likely_state_directory(config) / CONTROL_SOCKET
        if not path.exists():
            fail(str(error))
    found = _asked(path, "POST", RELOAD, Reloaded, RELOAD_TIMEOUT)
    if not found.applied:
        fail("\n".join((*found.problems, "reload refused: everything stays as it is")))
    say(f"reloaded: generation {found.generation} accepts connections")


def ask(path: Path) -> Status:
    """The status of the server behind a control socket; ends the command where none answers."""
    return _asked(path, "GET", "/api/v1/status", Status, TIMEOUT)


def _asked(path: Path, method: str, endpoint: str, answer: type[_Answer], timeout: float) -> _Answer:
    """What the server behind a control socket answers; ends the command where it does not."""
    import httpx  # no other command needs it, and it takes a while

    try:
        with socket_address(path) as address:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address)
            with httpx.Client(transport=httpx.HTTPTransport(uds=address), timeout=timeout) as client:
                found = client.request(method, f"http://snigate{endpoint}").raise_for_status()
        return msgspec.json.decode(found.content, type=answer)
    except PermissionError:
        fail(f"{path} may not be used; ask as the user that snigate runs as")
    except OSError:
        fail(f"snigate is not running: nothing answers on {path}; start it with 'snigate serve'")
    except (httpx.HTTPError, msgspec.MsgspecError) as error:
        fail(f"the server behind {path} gave no answer that can be used ({error}); look into its log")


def _show(found: Status) -> None:
    style = "green" if found.ready else "red"
    facts(
        [
            ("snigate", f"{found.version}, up {_duration(found.uptime_seconds)}"),
            ("State", (found.state, style)),
            *((f"Listens on ({name})", address) for name, address in found.admin.items()),
            *_store_rows(found),
        ]
    )
    table(
        ("Listener", "Addresses", "Protocol", "TLS", "Backend"),
        [(one.name, "\n".join(one.addresses), one.protocol, _tls(one), one.backend) for one in found.listeners],
    )
    table(
        ("Process", "Gen.", "Pid", "State", "Up", "Certs", "Change", "Digest"),
        [(*_process(one), *_replica(found, one)) for one in found.processes],
    )
    if found.worker_restarts:
        say(f"{count(found.worker_restarts, 'worker')} died and was started again", "yellow")


def _tls(one: Listener) -> Cell:
    return (f"{one.tls} or plain text", "yellow") if one.plain_text else one.tls


def _store_rows(found: Status) -> list[tuple[str, Cell]]:
    store = found.store
    if store is None:
        return [("Certificates", ("the keeper has not reported yet", "yellow"))]
    rows: list[tuple[str, Cell]] = [("Certificates", f"{store.certificates}, change {store.change}")]
    if store.problems:
        rows.append(("Problems", (f"{store.problems}; see 'snigate check'", "red")))
    if store.waiting:
        rows.append(("Without key", (count(store.waiting, "file"), "yellow")))
    if store.unverified:
        rows.append(("Being verified", count(store.unverified, "certificate")))
    rows.append(("Watching", "yes" if store.watching else ("no: directories are polled", "yellow")))
    return [*rows, ("Last scan", store.last_scan or "never"), ("Last change", store.last_swap or "never")]


def _process(one: Process) -> tuple[Cell, ...]:
    name = f"worker {one.number}" if one.role == "worker" else one.role
    style = {"ready": "green", "down": "red"}.get(one.state, "yellow")
    return name, str(one.generation), str(one.pid or "-"), (one.state, style), _age(one.started_at)


def _replica(found: Status, process: Process) -> tuple[Cell, ...]:
    for one in found.replicas:
        if process.role == "worker" and one.worker == process.number:
            return str(one.certificates), str(one.change), one.digest
    return "", "", ""


def _duration(seconds: float, units: int = 2) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:units]) or "0 s"


def _age(started_at: str | None) -> str:
    """How long ago an ISO 8601 moment was, in its largest unit."""
    if started_at is None:
        return "-"
    return _duration(max(0.0, time.time() - datetime.fromisoformat(started_at).timestamp()), units=1)
