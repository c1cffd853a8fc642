"""Caddy: an HTTP reverse proxy, since without plugins it relays no TCP."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import Ability, Peer, Site, program


def command(site: Site) -> list[str]:
    """HTTP/1.1 alone, no certificates of its own, no log, one thread that runs Go code a worker."""
    file = site.directory / "caddy.json"
    file.write_text(json.dumps(_configuration(site)))
    home = [f"{name}={site.directory}" for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")]
    return ["env", *home, f"GOMAXPROCS={site.workers}", program("caddy") or "caddy", "run", "--config", str(file)]


def take(site: Site, pid: int, path: Path) -> None:
    """A reload, through its API."""
    body = json.dumps(_configuration(site)).encode()
    headers = {"Content-Type": "application/json", "Cache-Control": "must-revalidate"}
    request = urllib.request.Request(f"http://127.0.0.1:{site.control}/load", body, headers)
    with urllib.request.urlopen(request, timeout=120):
        pass


def _configuration(site: Site) -> dict[str, Any]:
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{site.backend}"}]}
    server = {
        "listen": [f"127.0.0.1:{site.port}"],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{}],
        "routes": [{"handle": [proxy]}],
    }
    return {
        "admin": {"listen": f"127.0.0.1:{site.control}", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {
            "http": {"servers": {"bench": server}},
            "tls": {"certificates": {"load_folders": [str(site.certificates)]}},
        },
    }


PEER = Peer("caddy", "caddy", ("version",), command, frozenset(Ability) - {Ability.PASSTHROUGH}, take)
