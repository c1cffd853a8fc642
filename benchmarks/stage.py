"""What cases are played on: a directory, a backend, certificates made when first wanted, and the servers that run."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from OpenSSL import SSL

from benchmarks import certificates
from benchmarks.backend import Backend, backend
from benchmarks.client import Offer
from benchmarks.connections import Target, probe
from benchmarks.cores import LOAD_CORE, SERVER_CORE
from benchmarks.effort import Effort
from benchmarks.peers.peer import Peer, Site
from benchmarks.server import Running, StartError, serving
from tests.support.pki import Authority
from tests.support.ports import free_port


@dataclass(frozen=True)
class Wanted:
    """The site that a case wants to be served."""

    key_type: str = "ecdsa-p256"
    count: int = 1  # certificates
    workers: int = 1
    passthrough: bool = False
    replaced: bool = False  # certificates will be: the server needs files of its own


class Stage:
    """Servers started with `running` go on until the case's end: `clear`."""

    def __init__(self, directory: Path, effort: Effort) -> None:
        self.effort = effort
        self.authorities: dict[int, Authority] = {}
        self._directory = directory
        self._stack = ExitStack()
        self._case = ExitStack()
        self._running: dict[tuple[str, Wanted], Running] = {}
        self._numbers = itertools.count()

    def __enter__(self) -> Stage:
        self._directory.chmod(0o755)  # some peers give up root
        self._backend = self._stack.enter_context(
            backend(self._directory / "backend", self.certificates(Wanted()) / f"{certificates.NAME}.pem")
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self._stack.close()

    @property
    def backend(self) -> Backend:
        """The backend that runs."""
        return self._backend

    @property
    def upload(self) -> Path:
        """A file to upload."""
        return self._directory / "backend" / "100m"

    def certificates(self, wanted: Wanted) -> Path:
        """The directory with the certificates for it."""
        directory = self._directory / f"{wanted.key_type}-{wanted.count}"
        if not directory.exists():
            if wanted.count == 1:
                certificates.write_one(directory, wanted.key_type)
            else:
                self.authorities[wanted.count] = certificates.write_many(directory, wanted.count)
        return directory

    def site(self, peer: Peer, wanted: Wanted) -> Site:
        """A site on a free port, in a new directory."""
        backend_port = self._backend.tls if wanted.passthrough else self._backend.plain
        directory, files = self._directory / f"{next(self._numbers)}-{peer.name}", self.certificates(wanted)
        if wanted.replaced:
            files = Path(shutil.copytree(files, Path(f"{directory}-certificates"), copy_function=os.link))
        return Site(
            directory,
            free_port(),
            backend_port,
            files,
            free_port(),
            wanted.workers,
            wanted.passthrough,
        )

    @contextmanager
    def fresh(self, peer: Peer, wanted: Wanted, patience: float = 30.0) -> Iterator[Running]:
        """A server of its own for the block."""
        cores = {SERVER_CORE} if wanted.workers == 1 else {SERVER_CORE, LOAD_CORE}
        with serving(peer, self.site(peer, wanted), cores, patience) as running:
            yield running

    def running(self, peer: Peer, wanted: Wanted) -> Running:
        """The case's server, started when first asked for."""
        key = (peer.name, wanted)
        if key not in self._running:
            patience = self.effort.start_patience
            self._running[key] = self._case.enter_context(self.fresh(peer, wanted, patience))
            self.settle(self._running[key])
        return self._running[key]

    def settle(self, running: Running) -> None:
        """Wait until a client is served, and what a start does beside that has ended."""
        _settled(running, self.effort.start_patience, self.effort.quiet)

    def clear(self) -> None:
        """Stop the case's servers."""
        self._running.clear()
        self._case.close()


def _settled(running: Running, patience: float, quiet: float) -> None:
    deadline = time.monotonic() + patience
    name = running.site.files[0].stem
    while True:
        try:
            probe(target(running, name), Offer())
            break
        except (OSError, SSL.Error) as error:
            if time.monotonic() > deadline:
                raise StartError(f"{running.peer.name} served no client within {patience:g} s: {error!r}") from error
            time.sleep(0.05)
    used, since = running.cpu(), time.monotonic()
    while time.monotonic() < min(deadline, since + quiet):
        time.sleep(0.05)
        if running.cpu() - used > 0.02:
            used, since = running.cpu(), time.monotonic()


def target(running: Running, name: str = certificates.NAME) -> Target:
    """Where its clients connect."""
    return Target(running.site.port, name)
