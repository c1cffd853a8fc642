"""HAProxy from Debian's package, before snigate or behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import needs, running

_DEFAULTS = (
    "global\n  log stdout format raw local0\n"
    "defaults\n  log global\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n"
)


@contextlib.contextmanager
def haproxy(directory: Path, port: int, configuration: str) -> Iterator[Path]:
    """HAProxy with these sections, of which one listens on `port`; yields its log."""
    directory.mkdir()
    file, log = directory / "haproxy.cfg", directory / "haproxy.log"
    file.write_text(_DEFAULTS + configuration)
    with running([needs("haproxy"), "-db", "-f", str(file)], port, log):
        yield log


def sender(port: int, target: int, word: str, source: str) -> str:
    """A proxy in TCP mode that sends its clients on from `source`; `word` is send-proxy, send-proxy-v2, ..."""
    return (
        f"listen sender\n  mode tcp\n  bind 127.0.0.1:{port}\n  source {source}\n"
        f"  server snigate 127.0.0.1:{target} {word}\n"
    )


def receiver(port: int) -> str:
    """A server that takes a PROXY header, and answers and logs whom and what it was told of."""
    facts = "src=%[src]:%[src_port] dst=%[dst]:%[dst_port] authority=%[fc_pp_authority] id=%[fc_pp_unique_id]"
    return (
        f"frontend receiver\n  mode http\n  bind 127.0.0.1:{port} accept-proxy\n"
        f'  log-format "told {facts}"\n'
        f'  http-request return status 200 content-type text/plain lf-string "{facts}"\n'
    )
