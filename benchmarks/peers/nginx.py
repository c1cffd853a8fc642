"""nginx: its stream module, and for many certificates a server block each in http, as users do it."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path

from benchmarks.peers.peer import Ability, Peer, Site, program

_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def head(directory: Path, workers: int = 1) -> str:
    """What every configuration begins with."""
    return (
        f"load_module {_MODULE};\ndaemon off;\nworker_processes {workers};\nworker_rlimit_nofile 20000;\n"
        f"user {pwd.getpwuid(os.getuid()).pw_name};\npid {directory}/nginx.pid;\nerror_log stderr crit;\n"
        "events { worker_connections 16384; }\n"
    )


def temporary(directory: Path) -> str:
    """Where http keeps what it stores."""
    return (
        f"client_body_temp_path {directory}/body; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;\n"
        f"uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n"
    )


def run(directory: Path, configuration: str) -> list[str]:
    """Write the configuration; the command that runs it."""
    file = directory / "nginx.conf"
    file.write_text(configuration)
    return [program("nginx") or "nginx", "-c", str(file), "-p", str(directory), "-e", "stderr"]


def command(site: Site) -> list[str]:
    """stream, or http with a server block for each of many certificates."""
    many = not site.passthrough and len(site.files) > 1
    return run(site.directory, head(site.directory, site.workers) + (_http(site) if many else _stream(site)))


def _stream(site: Site) -> str:
    reuse = " reuseport" if site.workers > 1 else ""
    if site.passthrough:
        how = f"listen 127.0.0.1:{site.port} backlog=4096{reuse}; ssl_preread on;\n"
    else:
        certificate = site.files[0]
        how = (
            f"listen 127.0.0.1:{site.port} ssl backlog=4096{reuse};\n"
            f"ssl_certificate {certificate}; ssl_certificate_key {certificate};\n"
            "ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n"
        )
    to = f"tcp_nodelay on; proxy_timeout 1h; proxy_pass {'$to' if site.passthrough else f'127.0.0.1:{site.backend}'};"
    named = f"map $ssl_preread_server_name $to {{ hostnames; *.test 127.0.0.1:{site.backend}; }}\n"
    return f"stream {{\naccess_log off;\n{named if site.passthrough else ''}server {{\n{how}{to}\n}}\n}}\n"


def _http(site: Site) -> str:
    servers = "".join(
        f"server {{ listen 127.0.0.1:{site.port} ssl; server_name {file.stem}; ssl_certificate {file};"
        f" ssl_certificate_key {file}; location / {{ proxy_pass http://backend; }} }}\n"
        for file in site.files
    )
    sizes = 1 << max(10, (2 * len(site.files)).bit_length())
    return (
        f"http {{\naccess_log off; server_names_hash_max_size {sizes}; server_names_hash_bucket_size 128;\n"
        f"{temporary(site.directory)}upstream backend {{ server 127.0.0.1:{site.backend}; }}\n"
        f"ssl_protocols TLSv1.2 TLSv1.3;\n{servers}}}\n"
    )


def take(site: Site, pid: int, path: Path) -> None:
    """A reload."""
    os.kill(pid, signal.SIGHUP)


PEER = Peer("nginx", "nginx", ("-v",), command, frozenset(Ability) - {Ability.HYBRID_KEY_EXCHANGE}, take)
