"""The snigate that is soaked, the servers behind it, and what is done to them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path
from types import TracebackType

from soak.plan import Deed
from soak.record import Event
from soak.settings import BACKENDS, INSIDE, LISTENERS, SWAPPED, THROUGH, changed, configuration, spoilt
from tests.support.pki import Authority, new_key, put
from tests.support.ports import free_port
from tests.support.snigate import Snigate, wait_for

ROOT = Path(__file__).parents[1]


class Site:
    """See above. `ports` are the listeners', by their names."""

    def __init__(self, directory: Path) -> None:
        self.ports = {name: free_port() for name in LISTENERS}
        self.shown: dict[str, str] = {}  # fingerprints of the newest certificates, by name
        self._backends = {name: free_port() for name in BACKENDS}
        self._authority, self._inside = Authority.make("Soak root"), Authority.make("Inside root")
        self._keys = {name: new_key(kind) for name, kind in SWAPPED.items()}
        self._names, self._mistakes = cycle(SWAPPED), count()
        self._directory = directory
        self._stack = ExitStack()
        self.snigate = Snigate(directory, configuration(self.ports, self._backends))
        self.ports["web"] = self.snigate.port

    @property
    def roots(self) -> dict[str, str]:
        """PEM of who issued what clients are shown, by snigate and by the server that is passed through to."""
        return {"front": self._authority.pem.decode(), "inside": self._inside.pem.decode()}

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            (self._directory / "root.pem").write_bytes(self._authority.pem)
            (self._directory / "inside.pem").write_bytes(self._inside.pem)
            put(self.snigate.certs / "wildcard.pem", self._authority.issue("*.soak.test").combined_pem)
            for name in SWAPPED:
                self._renew(name)
            stack.enter_context(self._serving())
            self.snigate.__enter__()
            stack.callback(self.snigate.stop)  # what it leaves behind is for the verdict to say
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def do(self, deed: Deed) -> Event:
        """Do it. Raises AssertionError where a reload does not come out as it should."""
        if deed.kind == "swap":
            name = next(self._names)
            self._renew(name)
            return Event(deed.at, deed.kind, name, self.shown[name])
        if deed.kind == "kill":
            os.kill(self._serving_worker(), signal.SIGKILL)
        elif deed.kind == "reload":
            put(self.snigate.file, changed(self.snigate.file.read_text()).encode())
            self._reload(0)
        else:
            good = self.snigate.file.read_text()
            put(self.snigate.file, spoilt(good, next(self._mistakes)).encode())
            self._reload(1)
            put(self.snigate.file, good.encode())
        return Event(deed.at, deed.kind)

    def _serving_worker(self) -> int:
        processes = self.snigate.api("/api/v1/status")["processes"]
        return next(int(one["pid"]) for one in processes if one["role"] == "worker" and one["state"] == "ready")

    def _renew(self, name: str) -> None:
        pair = self._authority.issue(name, key=self._keys[name])
        put(self.snigate.certs / f"{name}.pem", pair.combined_pem)
        self.shown[name] = pair.fingerprint

    def _reload(self, expected: int) -> None:
        status, said = self.snigate.reload()
        assert status == expected, said
        wait_for(lambda: self.snigate.metric("snigate_workers") == 2, "both workers accept")

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """The servers; where "down" should be, nobody listens, and nobody else can."""
        certificate = self._directory / "inside-server.pem"
        certificate.write_bytes(self._inside.issue(INSIDE, THROUGH).combined_pem)
        ports = dict(self._backends)
        with socket.socket() as down:
            down.bind(("127.0.0.1", ports.pop("down")))
            command = [sys.executable, "-m", "soak.backends", str(certificate), *map(str, ports.values())]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
                try:
                    assert process.stdout is not None
                    assert process.stdout.readline() == b"ready\n"
                    yield
                finally:
                    process.terminate()
