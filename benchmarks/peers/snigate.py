"""snigate."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.peer import Ability, Peer, Site, program

_PASSTHROUGH = '\n  [[listeners.routes]]\n  hosts = ["*.test"]\n  action = "passthrough"\n'


def command(site: Site) -> list[str]:
    """Everything as it comes, without an access log."""
    file = site.directory / "snigate.toml"
    file.write_text(
        f'[server]\nworkers = {site.workers}\nstate_directory = "{site.directory}/state"\ndrain = "1s"\n'
        f'[certificates]\ndirectories = ["{site.certificates}"]\ntrust = []\n'
        f'[admin]\nlisten = "127.0.0.1:{site.control}"\n[log]\nlevel = "error"\naccess = false\n'
        f'[[listeners]]\nname = "bench"\nbind = ["127.0.0.1:{site.port}"]\nbackend = "127.0.0.1:{site.backend}"\n'
        f"{_PASSTHROUGH if site.passthrough else ''}"
    )
    return [program("snigate") or "snigate", "serve", "--config", str(file)]


def take(site: Site, pid: int, path: Path) -> None:
    """It sees the file itself."""


PEER = Peer("snigate", "snigate", ("--version",), command, frozenset(Ability), take)
