"""hitch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from benchmarks.peers.peer import Ability, Peer, Site, program


def command(site: Site) -> list[str]:
    """One worker process a core; root is given up, as it insists on."""
    user = 'user = "nobody"\ngroup = "nogroup"\n' if os.getuid() == 0 else ""
    where = f'pem-dir = "{site.certificates}"' if len(site.files) > 1 else f'pem-file = "{site.files[0]}"'
    file = site.directory / "hitch.conf"
    file.write_text(
        f'frontend = {{ host = "127.0.0.1" port = "{site.port}" }}\nbackend = "[127.0.0.1]:{site.backend}"\n'
        f'workers = {site.workers}\nbacklog = 4096\nlog-level = 0\ntls-protos = TLSv1.2 TLSv1.3\nocsp-dir = ""\n'
        f"daemon = off\n{user}{where}\n"
    )
    return [program("hitch") or "hitch", f"--config={file}"]


def take(site: Site, pid: int, path: Path) -> None:
    """A reload."""
    os.kill(pid, signal.SIGHUP)


_ABILITIES = frozenset({Ability.MANY_CERTIFICATES, Ability.SWAP, Ability.TWO_WORKERS})
PEER = Peer("hitch", "hitch", ("--version",), command, _ABILITIES, take)
