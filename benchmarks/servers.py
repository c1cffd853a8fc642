"""The servers that are compared: each terminates TLS on one core and relays to the same backend."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import reachable

SERVER_CORE = 0
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Running:
    """A server that accepts on `port`."""

    name: str
    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU (user and system) that the server's processes have used so far."""
        return sum(_cpu(pid) for pid in _tree(self.pid))


def snigate(directory: Path, port: int, admin: int, backend: int, certificate: Path) -> list[str]:
    """Write a configuration; the command that runs it."""
    certificates = directory / "certificates"
    certificates.mkdir()
    shutil.copy(certificate, certificates)
    file = directory / "snigate.toml"
    file.write_text(
        f'[server]\nworkers = 1\nstate_directory = "{directory}/state"\n'
        f'[certificates]\ndirectories = ["{certificates}"]\ntrust = []\n'
        f'[admin]\nlisten = "127.0.0.1:{admin}"\n[log]\naccess = false\n'
        f'[[listeners]]\nname = "bench"\nbind = ["127.0.0.1:{port}"]\nbackend = "127.0.0.1:{backend}"\n'
    )
    return [str(Path(sys.executable).with_name("snigate")), "serve", "--config", str(file)]


def nginx(directory: Path, port: int, backend: int, certificate: Path) -> list[str]:
    """Write a configuration of nginx's stream module; the command that runs it."""
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    file = directory / "nginx.conf"
    file.write_text(
        f"load_module {module};\ndaemon off;\nworker_processes 1;\n"
        f"pid {directory}/nginx.pid;\nerror_log stderr error;\n"
        "events { worker_connections 4096; }\nstream {\n access_log off;\n"
        f" server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate};\n"
        "  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on; tcp_nodelay on;\n"
        f"  proxy_pass 127.0.0.1:{backend}; }}\n}}\n"
    )
    return ["nginx", "-c", str(file), "-p", str(directory), "-e", "stderr"]


@contextmanager
def started(name: str, command: list[str], port: int) -> Iterator[Running]:
    """Run a server, pinned to its core, until the block ends."""
    with subprocess.Popen(["taskset", "-c", str(SERVER_CORE), *command], stderr=subprocess.DEVNULL) as process:
        try:
            reachable(port)
            yield Running(name, port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK


def settle() -> None:
    """Let what follows a load (closing, logging) end, so that it is counted."""
    time.sleep(0.3)
