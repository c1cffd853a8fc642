"""HAProxy in TCP mode."""

from __future__ import annotations

import socket
from pathlib import Path

from benchmarks.peers.peer import Ability, Peer, Site, program


def command(site: Site) -> list[str]:
    """One thread a worker, no log, long time-outs."""
    crt = site.certificates if len(site.files) > 1 else site.files[0]
    if site.passthrough:
        front = (
            f"  bind 127.0.0.1:{site.port} backlog 4096\n  tcp-request inspect-delay 10s\n"
            "  tcp-request content accept if { req.ssl_hello_type 1 }\n"
            "  use_backend to if { req.ssl_sni -m end .test }\n"
        )
    else:
        front = f"  bind 127.0.0.1:{site.port} backlog 4096 ssl crt {crt} ssl-min-ver TLSv1.2\n  default_backend to\n"
    file = site.directory / "haproxy.cfg"
    file.write_text(
        f"global\n  maxconn 9000\n  nbthread {site.workers}\n"
        f"  stats socket {site.directory}/control level admin\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"frontend bench\n{front}backend to\n  server one 127.0.0.1:{site.backend}\n"
    )
    return [program("haproxy") or "haproxy", "-db", "-f", str(file)]


def take(site: Site, pid: int, path: Path) -> None:
    """Its runtime interface: quicker than a reload, and what its users automate."""
    _ask(site, f"set ssl cert {path} <<\n{path.read_text()}\n")
    _ask(site, f"commit ssl cert {path}\n")


def _ask(site: Site, line: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(f"{site.directory}/control")
        sock.sendall(line.encode())
        answer = bytearray()
        while chunk := sock.recv(4096):
            answer += chunk
    if not any(word in answer for word in (b"Success", b"Transaction created")):
        raise RuntimeError(f"haproxy did not take the certificate: {answer.decode().strip()}")


PEER = Peer("haproxy", "haproxy", ("-v",), command, frozenset(Ability) - {Ability.HYBRID_KEY_EXCHANGE}, take)
