"""What the system's openssl command makes of keys and certificates, for tests that read other people's files."""

from __future__ import annotations

import subprocess
from pathlib import Path

COMPRESSED_P256 = 59  # bytes of the public key's SubjectPublicKeyInfo; 91 where the point is not compressed


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    """Run `openssl` with these arguments and `data` on standard input; its standard output. Raises when it fails."""
    run = subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


def compressed_key() -> bytes:
    """A P-256 key whose public half is written as a compressed point: PEM."""
    key = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout")
    return openssl("pkey", "-ec_conv_form", "compressed", data=key)
