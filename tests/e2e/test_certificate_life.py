"""A certificate's whole life, live: made, requested, signed by a CA, imported, served, expired, replaced."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.pki import Authority, Pair, self_signed
from tests.support.servers import needs
from tests.support.snigate import PROGRAM, Snigate, wait_for
from tests.support.tls_client import shown

NAME = "mail.example.com"
TEXT = (
    '[certificates]\ntrust = ["root.crt"]\n'
    '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
)
CA = """
[ca]
default_ca = own
[own]
new_certs_dir = {directory}
database = {directory}/index.txt
rand_serial = yes
certificate = {directory}/lower.crt
private_key = {directory}/lower.key
default_md = sha256
default_days = 30
policy = anything
copy_extensions = copy
[anything]
commonName = supplied
[intermediate]
basicConstraints = critical, CA:TRUE
[req]
distinguished_name = nothing
[nothing]
"""


def openssl(directory: Path, *arguments: str) -> bytes:
    done = subprocess.run(
        [needs("openssl"), *arguments], cwd=directory, capture_output=True, timeout=30, check=False, input=b"Q\n"
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make_authority(directory: Path) -> None:
    """A root and an intermediate, made by openssl."""
    (directory / "ca.cnf").write_text(CA.format(directory=directory))
    (directory / "index.txt").touch()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config", "ca.cnf")
    root = ("-keyout", "root.key", "-out", "root.crt", "-subj", "/CN=Root", "-days", "30")
    openssl(directory, "req", "-x509", *key, *root, "-addext", "basicConstraints=critical,CA:TRUE")
    openssl(directory, "req", *key, "-keyout", "lower.key", "-out", "lower.csr", "-subj", "/CN=Intermediate")
    by_root = (
        "-CA",
        "root.crt",
        "-CAkey",
        "root.key",
        "-days",
        "20",
        "-extfile",
        "ca.cnf",
        "-extensions",
        "intermediate",
    )
    openssl(directory, "x509", "-req", "-in", "lower.csr", *by_root, "-out", "lower.crt")


def snigate(site: Snigate, *arguments: str) -> Any:
    """A command beside the running server."""
    done = subprocess.run(
        [PROGRAM, *arguments, "--json", "--config", site.file], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_certificate_from_first_start_to_the_one_after_it(tmp_path: Path) -> None:
    make_authority(tmp_path)
    with Snigate(tmp_path, TEXT, workers=2) as site:
        first = shown(site.port, NAME).fingerprint
        made = snigate(site, "certs", "request", NAME)
        (tmp_path / "mail.csr").write_text(made["request"])
        openssl(tmp_path, "ca", "-batch", "-config", "ca.cnf", "-in", "mail.csr", "-out", "mail.crt", "-notext")
        (done,) = snigate(site, "certs", "import", str(tmp_path / "lower.crt"), str(tmp_path / "mail.crt"))
        wait_for(lambda: shown(site.port, NAME).fingerprint == done["fingerprint"], "it is served")
        assert first != done["fingerprint"]
        verifying = ("-CAfile", "root.crt", "-verify_return_error", "-verify_hostname", NAME, "-showcerts")
        to = ("-connect", f"127.0.0.1:{site.port}", "-servername", NAME)
        seen = openssl(tmp_path, "s_client", *to, *verifying)
        assert seen.count(b"-----BEGIN CERTIFICATE-----") == 2
        snigate(site, "certs", "default", NAME, "--yes")
        wait_for(lambda: shown(site.port, "other.example.org").fingerprint == done["fingerprint"], "it is the default")


def imported(site: Snigate, file: Path, pair: Pair) -> None:
    """Write a pair into a file, and have it imported."""
    file.write_bytes(pair.combined_pem)
    snigate(site, "certs", "import", str(file))


def test_an_expired_certificate_makes_way_for_a_lesser_one_without_a_restart_or_a_deletion(tmp_path: Path) -> None:
    root = Authority.make("Root")
    (tmp_path / "root.crt").write_bytes(root.pem)
    newer = self_signed(NAME)
    with Snigate(tmp_path, TEXT, workers=1) as site:
        began = time.monotonic()
        imported(site, tmp_path / "newer.pem", newer)
        long_enough = 4 + 3 * (time.monotonic() - began)  # seconds, to be imported and seen on a machine like this
        short = root.issue(NAME, not_after=datetime.now(UTC) + timedelta(seconds=long_enough))
        imported(site, tmp_path / "short.pem", short)
        wait_for(lambda: shown(site.port, NAME).fingerprint == short.fingerprint, "the trusted one is served")
        wait_for(lambda: time.time() > short.not_after, "it has expired")
        wait_for(lambda: shown(site.port, NAME).fingerprint == newer.fingerprint, "the other one is served")
        assert len(site.api("/api/v1/certificates")["certificates"]) == 2
