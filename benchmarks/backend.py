"""The backend behind every server: nginx on the load's core, plain HTTP on one port and TLS on another.

nginx, because it costs least: what the backend takes, the load generator beside it does not get. A body that is sent to
it is read whole before it answers, so that an upload is over when its answer comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cores import LOAD_CORE
from benchmarks.peers import nginx
from benchmarks.server import listening
from tests.support.ports import free_port

SHORT = b"GET /short HTTP/1.1\r\nHost: %s\r\n\r\n"
SHORT_ANSWER = b"short answer\n"
MEGABYTES = 100


@dataclass(frozen=True)
class Backend:
    """Its ports."""

    plain: int
    tls: int


@contextmanager
def backend(directory: Path, certificate: Path) -> Iterator[Backend]:
    """Run it until the block ends."""
    directory.mkdir()
    (directory / "10k").write_bytes(bytes(10240))
    with (directory / "100m").open("wb") as file:
        for _ in range(MEGABYTES):
            file.write(bytes(1 << 20))
    made = Backend(free_port(), free_port())
    command = nginx.run(directory, _configuration(directory, certificate, made))
    with listening("the backend", command, {LOAD_CORE}, made.plain, directory / "log"):
        yield made


def _configuration(directory: Path, certificate: Path, made: Backend) -> str:
    return (
        f"{nginx.head(directory)}http {{\naccess_log off; sendfile on; tcp_nodelay on; open_file_cache max=10;\n"
        f"keepalive_timeout 1h; keepalive_requests 1000000000; {nginx.temporary(directory)}"
        f"client_max_body_size 0; client_body_buffer_size {MEGABYTES + 1}m;\n"
        f"ssl_certificate {certificate}; ssl_certificate_key {certificate};\n"
        "ssl_protocols TLSv1.2 TLSv1.3;\nserver {\n"
        f"listen 127.0.0.1:{made.plain} backlog=4096; listen 127.0.0.1:{made.tls} ssl backlog=4096;\n"
        f'root {directory}; location = /short {{ return 200 "{SHORT_ANSWER.decode().strip()}\\n"; }}\n'
        "location = /upload { proxy_pass_request_body off; proxy_set_header Content-Length 0; proxy_method GET;\n"
        f"proxy_pass http://127.0.0.1:{made.plain}/short; }}\n}}\n}}\n"
    )
