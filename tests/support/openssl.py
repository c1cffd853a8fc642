"""What the system's openssl command makes of keys and certificates, for tests that read other people's files."""

from __future__ import annotations

import subprocess
from pathlib import Path


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    """Run `openssl` with these arguments and `data` on standard input; its standard output. Raises when it fails."""
    run = subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout
