"""`snigate serve`, `status` and `reload`: the running server."""

from __future__ import annotations

import socket
import time
from datetime import datetime
from pathlib import Path

import msgspec
import typer

from admin import logs
from admin.answers import Process, Status
from admin.commands.output import Cell, ConfigOption, JsonOption, facts, fail, load, say, say_json, table
from admin.panel import announce
from admin.serve import serve as run_server
from admin.state import CONTROL_SOCKET, StateError
from admin.text import count
from certstore.errors import CertstoreError
from certstore.unix_path import socket_address
from proxy.client_auth import ClientAuthError
from proxy.contexts import ContextError
from proxy.sockets import BindError

TIMEOUT = 10.0  # seconds


def serve(config: ConfigOption = None) -> None:
    """Run until stopped."""
    loaded = load(config)
    logs.configure(loaded.log)
    try:
        status = run_server(loaded, lambda ready: announce(loaded, ready))
    except (StateError, BindError, ClientAuthError, ContextError, CertstoreError) as error:
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
    """Take in a changed configuration (not available yet)."""
    load(config)
    fail("reload is not available yet; restart snigate to change its configuration (certificates need no restart)")


def ask(path: Path) -> Status:
    """The status of the server behind a control socket; ends the command where none answers."""
    import httpx  # no other command needs it, and it takes a while

    try:
        with socket_address(path) as address:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address)
            with httpx.Client(transport=httpx.HTTPTransport(uds=address), timeout=TIMEOUT) as client:
                answer = client.get("http://snigate/api/v1/status").raise_for_status()
        found = msgspec.json.decode(answer.content, type=Status)
    except PermissionError:
        fail(f"{path} may not be used; ask as the user that snigate runs as")
    except OSError:
        fail(f"snigate is not running: nothing answers on {path}; start it with 'snigate serve'")
    except (httpx.HTTPError, msgspec.MsgspecError) as error:
        fail(f"the server behind {path} gave no answer that can be used ({error}); look into its log")
    return found


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
        ("Listener", "Addresses", "Protocol", "Backend"),
        [(one.name, "\n".join(one.addresses), one.protocol, one.backend) for one in found.listeners],
    )
    table(
        ("Process", "Pid", "State", "Up", "Certificates", "Change", "Digest"),
        [(*_process(one), *_replica(found, one)) for one in found.processes],
    )
    if found.worker_restarts:
        say(f"{count(found.worker_restarts, 'worker')} died and was started again", "yellow")


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
    state = ("ready", "green") if one.ready else ("starting", "yellow") if one.pid else ("down", "red")
    return name, str(one.pid or "-"), state, _age(one.started_at)


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
