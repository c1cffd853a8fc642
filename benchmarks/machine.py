"""Where a measurement ran, and of which commit."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from OpenSSL import SSL

from benchmarks.results import Machine


def commit() -> str:
    """The commit that is checked out, marked where it was changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


def machine() -> Machine:
    """This machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processors = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    openssl = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    return Machine(
        processor=processors[0] if processors else platform.machine(),
        cores=len(processors),
        kernel=platform.release(),
        python=platform.python_version(),
        openssl=openssl,
    )
