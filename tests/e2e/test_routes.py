"""Routes by server name and ALPN: TLS that ends here, that passes through, that is refused."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from proxy.leg import reset
from tests.support.backend import PlayedBackend, read, rest
from tests.support.pki import Pair, self_signed
from tests.support.ports import free_port
from tests.support.servers import needs, nginx
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context, request, see, shown
from tests.support.tls_socket import opened

SIZE = 20 << 20


class Place(NamedTuple):
    """A snigate with its own certificate, and a backend with another that ends TLS itself."""

    snigate: Snigate
    own: Pair
    theirs: Pair
    played: PlayedBackend


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("routes")
    tls, told, h2c, plain = free_port(), free_port(), free_port(), free_port()
    theirs = self_signed("through.example.com")
    home = directory / "nginx"
    theirs.write(directory, "theirs")
    certificate = f"ssl_certificate {directory}/theirs.crt; ssl_certificate_key {directory}/theirs.key;"
    files = f"location /files/ {{ alias {home}/files/; }}"
    servers = (
        f"server {{ listen 127.0.0.1:{tls} ssl http2; {certificate} {files} }}\n"
        f"server {{ listen 127.0.0.1:{told} ssl proxy_protocol; {certificate}\n"
        '  location = /who { return 200 "$proxy_protocol_addr"; } }\n'
        f"server {{ listen 127.0.0.1:{h2c} http2; location / {{ return 200 h2; }} }}\n"
        f"server {{ listen 127.0.0.1:{plain}; location / {{ return 200 h1; }} }}\n"
    )
    with nginx(home, servers, tls), PlayedBackend() as played:
        (home / "files").mkdir()
        (home / "files" / "large").write_bytes(bytes(SIZE))
        snigate = Snigate(
            directory,
            f"""
[log]
format = "json"

[backends.told]
servers = ["127.0.0.1:{told}"]
client_address = "proxy-v2"

[[listeners]]
name = "web"
bind = ["127.0.0.1:{{port}}"]
backend = "welcome"

  [[listeners.routes]]
  hosts = ["through.example.com"]
  action = "passthrough"
  backend = "127.0.0.1:{tls}"

  [[listeners.routes]]
  hosts = ["told.example.com"]
  action = "passthrough"
  backend = "told"

  [[listeners.routes]]
  hosts = ["played.example.com"]
  action = "passthrough"
  backend = "127.0.0.1:{played.port}"

  [[listeners.routes]]
  hosts = ["*.rejected.example.com"]
  action = "reject"

  [[listeners.routes]]
  hosts = ["both.example.com"]
  match_alpn = ["h2"]
  backend = "127.0.0.1:{h2c}"

  [[listeners.routes]]
  hosts = ["both.example.com"]
  match_alpn = ["http/1.1"]
  backend = "127.0.0.1:{plain}"

  [[listeners.routes]]
  hosts = ["both.example.com"]
  match_alpn = ["imap"]
  action = "reject"
""",
        )
        own = self_signed("*.example.com")
        own.write(snigate.certs)
        with snigate:
            yield Place(snigate, own, theirs, played)


def lines(snigate: Snigate, **fields: object) -> list[dict[str, object]]:
    """The access log's lines with these values; "__" stands for a dot in a field's name."""
    wanted = {name.replace("__", "."): value for name, value in fields.items()}
    found = [json.loads(line) for line in snigate.log.splitlines() if '"snigate.access"' in line]
    return [line for line in found if all(line.get(name) == value for name, value in wanted.items())]


def client_hello(name: str) -> bytes:
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def curl(place: Place, name: str, path: str, *more: str) -> bytes:
    port = place.snigate.port
    return subprocess.run(
        [needs("curl"), "-sSkf", *more, "--connect-to", f"{name}:443:127.0.0.1:{port}", f"https://{name}{path}"],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout


def test_what_passes_through_is_ended_by_the_backend_and_comes_byte_for_byte(place: Place) -> None:
    assert shown(place.snigate.port, "through.example.com").fingerprint == place.theirs.fingerprint
    assert shown(place.snigate.port, "other.example.com").fingerprint == place.own.fingerprint
    assert curl(place, "through.example.com", "/files/large", "--http2") == bytes(SIZE)
    wait_for(
        lambda: lines(
            place.snigate,
            tls__client__server_name="through.example.com",
            event__action="served",
            tls__established=False,
        ),
        "it is logged",
    )


def test_a_proxy_header_goes_before_what_passes_through(place: Place) -> None:
    assert curl(place, "told.example.com", "/who", "--interface", "127.0.0.61") == b"127.0.0.61"


def test_the_clienthello_passes_through_as_it_came_and_half_closes_stay_half_closes(place: Place) -> None:
    hello = client_hello("played.example.com")
    with socket.create_connection(("127.0.0.1", place.snigate.port), timeout=10) as client:
        client.sendall(hello[:7])
        client.sendall(hello[7:] + b"and more")
        with place.played.accept() as server:
            assert read(server, len(hello) + 8) == hello + b"and more"
            client.shutdown(socket.SHUT_WR)
            assert rest(server) == (b"", "FIN")
            server.sendall(b"answer")
        assert rest(client) == (b"answer", "FIN")


def test_a_reset_of_the_backend_passes_through(place: Place) -> None:
    with socket.create_connection(("127.0.0.1", place.snigate.port), timeout=10) as client:
        client.sendall(client_hello("played.example.com"))
        server = place.played.accept()
        read(server, 5)
        reset(server)
        assert rest(client) == (b"", "RST")


def test_a_rejected_name_gets_unrecognized_name_and_is_counted_and_logged(place: Place) -> None:
    with pytest.raises(ssl.SSLError, match="unrecognized name"), connect(place.snigate.port, "a.rejected.example.com"):
        pass
    wait_for(lambda: place.snigate.metric("snigate_handshake_failures_total", reason="rejected") == 1, "it is counted")
    wait_for(lambda: lines(place.snigate, event__reason="rejected", snigate__ended_by="operator"), "it is logged")


def test_alpn_chooses_among_the_routes_of_one_host_and_only_what_was_chosen_is_agreed_on(place: Place) -> None:
    assert curl(place, "both.example.com", "/", "--http2") == b"h2"
    assert curl(place, "both.example.com", "/", "--http1.1") == b"h1"
    with connect(place.snigate.port, "both.example.com", using=context(alpn=("http/1.1", "h2"))) as tls:
        assert tls.selected_alpn_protocol() == "http/1.1"
        assert see(tls).fingerprint == place.own.fingerprint
        assert b"h1" in request(tls)
    with (
        pytest.raises(ssl.SSLError, match="no application protocol"),
        connect(place.snigate.port, "both.example.com", using=context(alpn=("imap",))),
    ):
        pass


def test_the_log_tells_of_route_ja4_certificate_and_durations(place: Place) -> None:
    with opened(place.snigate.port, "logged.example.com") as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.send_close_notify()
        client.rest()
    wait_for(lambda: lines(place.snigate, tls__client__server_name="logged.example.com"), "it is logged")
    (line,) = lines(place.snigate, tls__client__server_name="logged.example.com")
    assert line["tls.server.hash.sha256"] == place.own.fingerprint.upper()
    assert (line["snigate.route"], line["snigate.level"], line["snigate.backend"]) == ("-", 6, "welcome")
    assert str(line["tls.client.ja4"]).startswith("t13d")
    assert (line["tls.version"], line["event.action"], line["event.outcome"]) == ("1.3", "served", "success")
    assert 0 < int(str(line["snigate.handshake.duration"])) <= int(str(line["event.duration"]))
