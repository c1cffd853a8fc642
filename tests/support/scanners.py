"""What testssl.sh, sslscan and sslyze find at a port of this machine, each in its own words made short."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.servers import needs

NAME = "localhost"  # who is asked for, of scanners that look names up
SSLYZE = Path(sys.prefix) / "sslyze" / "bin" / "sslyze"  # in an environment of its own, see the Makefile
PATIENCE = 500  # seconds that a scan may take; on a quiet machine it is twenty


class Finding(NamedTuple):
    """One of testssl.sh's."""

    severity: str  # "OK", "INFO", "WARN" where a check could not be made, "LOW", "MEDIUM", "HIGH", "CRITICAL"
    words: str


class Offered(NamedTuple):
    """What sslscan found to be offered."""

    versions: frozenset[str]  # "TLSv1.2"
    ciphers: frozenset[str]  # OpenSSL's names
    groups: frozenset[str]
    heartbleed: bool


class Judged(NamedTuple):
    """What sslyze found."""

    complaints: str  # what keeps it from being one of Mozilla's configurations; "" where nothing does
    found: dict[str, Any]  # the result of each scan by its name


def by_testssl(port: int, checks: tuple[str, ...], into: Path, starttls: str | None = None) -> dict[str, Finding]:
    """Its findings by their ids."""
    options = ("--warnings", "off", "--color", "0", "--quiet", "--nodns", "none", "--ip", "127.0.0.1")
    protocol = ("--starttls", starttls) if starttls else ()
    _run(needs("testssl"), *options, *protocol, *checks, "--jsonfile", str(into), f"{NAME}:{port}")
    return {one["id"]: Finding(one["severity"], one["finding"]) for one in json.loads(into.read_text())}


def by_sslscan(port: int, starttls: str | None = None) -> Offered:
    """What it takes to be offered."""
    protocol = (f"--starttls-{starttls}",) if starttls else ()
    document = ElementTree.fromstring(_run(needs("sslscan"), *protocol, "--xml=-", f"{NAME}:{port}"))
    versions = (one.attrib for one in document.iter("protocol") if one.get("enabled") == "1")
    return Offered(
        frozenset(f"{one['type'].upper()}v{one['version']}" for one in versions),
        frozenset(one.attrib["cipher"] for one in document.iter("cipher")),
        frozenset(one.attrib["name"].partition(" ")[0] for one in document.iter("group")),
        any(one.get("vulnerable") == "1" for one in document.iter("heartbleed")),
    )


def by_sslyze(port: int, mozilla: str, authority: Path, into: Path, starttls: str | None = None) -> Judged:
    """What it finds, measured by one of Mozilla's configurations; certificates are verified by this authority."""
    protocol = ("--starttls", starttls) if starttls else ()
    options = ("--certinfo_ca_file", str(authority), "--early_data", "--mozilla_config", mozilla)
    said = _run(needs(str(SSLYZE)), *options, *protocol, "--json_out", str(into), f"{NAME}:{port}")
    (target,) = json.loads(into.read_text())["server_scan_results"]
    judgement = said.rpartition(f"{NAME}:{port}: ")[2]
    return Judged(
        "" if judgement.startswith("OK - Compliant") else judgement,
        {name: scan["result"] for name, scan in target["scan_result"].items() if scan["status"] == "COMPLETED"},
    )


def _run(*command: str) -> str:
    """What it prints. They say by their status how much they found, or nothing."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    return done.stdout
