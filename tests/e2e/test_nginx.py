"""snigate in front of a real nginx: HTTP/1.1 and HTTP/2 by ALPN, PROXY protocol, and large bodies byte for byte."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.servers import needs, nginx
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context, request

CLIENT = "127.0.0.66"
SIZE = 100 << 20


def servers(directory: Path, plain: int, v1: int, h2c: int) -> str:
    echo = 'location = /who { return 200 "$proxy_protocol_addr"; }'
    files = (
        f"location /files/ {{ alias {directory}/files/; }}\n"
        f"location /put/ {{ alias {directory}/put/; dav_methods PUT; create_full_put_path on; }}"
    )
    return (
        f"server {{ listen 127.0.0.1:{plain}; listen unix:{directory}/nginx.sock; {files} }}\n"
        f"server {{ listen 127.0.0.1:{v1} proxy_protocol; {echo} }}\n"
        f"server {{ listen 127.0.0.1:{h2c} http2 proxy_protocol; {echo} {files} }}\n"
    )


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_a_hundred_megabytes_come_down_and_go_up_byte_for_byte(tmp_path: Path, over: str) -> None:
    curl = needs("curl")
    plain = free_port()
    home = tmp_path / "nginx"
    with nginx(home, servers(home, plain, free_port(), free_port()), plain):
        (home / "files").mkdir()
        body = os.urandom(1 << 20) * (SIZE >> 20)
        (home / "files" / "large").write_bytes(body)
        backend = f"127.0.0.1:{plain}" if over == "tcp" else f"unix:{home}/nginx.sock"
        listener = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nalpn = ["http/1.1"]\n'
        with Snigate(tmp_path, f'{listener}backend = "{backend}"\n') as snigate:
            base = f"https://127.0.0.1:{snigate.port}"
            down = tmp_path / "down"
            subprocess.run([curl, "-sSkf", "-o", down, f"{base}/files/large"], check=True, timeout=60)
            assert digest(down) == hashlib.sha256(body).hexdigest()
            subprocess.run([curl, "-sSkf", "-T", down, f"{base}/put/large"], check=True, timeout=60)
            assert digest(home / "put" / "large") == hashlib.sha256(body).hexdigest()
            wait_for(lambda: snigate.metric("snigate_connections_active") == 0, "both connections have ended")
            assert snigate.metric("snigate_bytes_total", direction="to_backend") > SIZE
            assert snigate.metric("snigate_bytes_total", direction="to_client") > SIZE


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_learns_the_clients_address_by_proxy_protocol(tmp_path: Path, version: str) -> None:
    port = free_port()
    home = tmp_path / "nginx"
    with nginx(home, servers(home, free_port(), port, free_port()), port):
        configuration = (
            f'[backends.nginx]\nservers = ["127.0.0.1:{port}"]\nclient_address = "proxy-{version}"\n'
            '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "nginx"\n'
        )
        with Snigate(tmp_path, configuration) as snigate:
            answer = subprocess.run(
                [needs("curl"), "-sSk", "--interface", CLIENT, f"https://127.0.0.1:{snigate.port}/who"],
                check=True,
                capture_output=True,
                timeout=30,
            )
            assert answer.stdout.decode() == CLIENT
            wait_for(lambda: CLIENT in (home / "access.log").read_text(), "nginx has logged the client's address")


def test_alpn_decides_between_http_2_and_http_1_1(tmp_path: Path) -> None:
    plain, h2c = free_port(), free_port()
    home = tmp_path / "nginx"
    with nginx(home, servers(home, plain, free_port(), h2c), plain):
        (home / "files").mkdir()
        (home / "files" / "small").write_text("small")
        configuration = (
            f'[backends.h2c]\nservers = ["127.0.0.1:{h2c}"]\n'
            '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nalpn = ["http/1.1"]\n'
            f'backend = "127.0.0.1:{plain}"\n'
            '[[listeners.routes]]\nhosts = ["h2.example.com"]\nalpn = ["h2"]\nbackend = "h2c"\n'
        )
        with Snigate(tmp_path, configuration) as snigate:
            for name, wanted in (("h2.example.com", "2"), ("h1.example.com", "1.1")):
                answer = subprocess.run(
                    [
                        *(needs("curl"), "-sSkf", "--http2", "-w", " %{http_version}"),
                        *("--connect-to", f"{name}:443:127.0.0.1:{snigate.port}", f"https://{name}/files/small"),
                    ],
                    check=True,
                    capture_output=True,
                    timeout=30,
                )
                assert answer.stdout.decode() == f"small {wanted}"
            with (
                pytest.raises(ssl.SSLError, match="no application protocol"),
                connect(snigate.port, "h2.example.com", using=context(alpn=("imap",))),
            ):
                pass
            with connect(snigate.port, "h1.example.com") as tls:  # a client without ALPN is served
                assert tls.selected_alpn_protocol() is None
                assert b"200 OK" in request(tls, "/files/small")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
