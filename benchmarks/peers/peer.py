"""What a peer is: a program, the configuration that it is given for a site, and what it is able to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Ability(Enum):
    """What not every peer has."""

    HYBRID_KEY_EXCHANGE = "X25519MLKEM768"
    MANY_CERTIFICATES = "directory of certificates"
    SWAP = "way to swap a certificate"
    TWO_WORKERS = "workers"
    PASSTHROUGH = "passthrough"


@dataclass(frozen=True)
class Site:
    """What a server is to serve, and where it may write. The backend speaks plain HTTP, or TLS with `passthrough`."""

    directory: Path
    port: int
    backend: int
    certificates: Path  # a directory of <host name>.pem, key and chain each
    control: int  # a second free port, for what the server is managed by
    workers: int = 1
    passthrough: bool = False

    @property
    def files(self) -> list[Path]:
        """The certificates' files."""
        return sorted(self.certificates.iterdir())


@dataclass(frozen=True)
class Peer:
    """A server that can be compared."""

    name: str
    program: str
    version_arguments: tuple[str, ...]
    command: Callable[[Site], list[str]]  # writes the configuration
    abilities: frozenset[Ability] = frozenset()
    take: Callable[[Site, int, Path], None] | None = None  # makes the running server (pid) take a replaced file

    @property
    def path(self) -> str | None:
        """The program's path; None where it is not installed."""
        return program(self.program)

    @property
    def version(self) -> str:
        """The version that the program itself tells."""
        if self.path is None:
            return ""
        done = subprocess.run([self.path, *self.version_arguments], capture_output=True, text=True, timeout=30)
        found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
        return found.group() if found else "unknown"


def program(name: str) -> str | None:
    """The path of a program, in this environment or the system."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"]
    return shutil.which(name, path=":".join(places))
