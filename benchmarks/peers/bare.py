"""The yardstick: see benchmarks.bare."""

from __future__ import annotations

import sys

from benchmarks.peers.peer import Peer, Site


def command(site: Site) -> list[str]:
    """One process, one certificate."""
    return [sys.executable, "-m", "benchmarks.bare", str(site.port), str(site.backend), str(site.files[0])]


PEER = Peer("bare", sys.executable, ("--version",), command)
