"""TLS to the backend: real nginx servers with certificates of every kind, and one that cuts its stream short."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.server_certificate import pin_of
from tests.support.backend import PlayedBackend
from tests.support.pki import DAY, Authority, Pair, self_signed
from tests.support.ports import free_port
from tests.support.servers import nginx
from tests.support.snigate import PROGRAM, Snigate, wait_for
from tests.support.tls_client import connect, request
from tests.support.tls_socket import opened

NAME = "app.internal"
ROOT = Authority.make()
GOOD = Authority.make("Intermediate", ROOT).issue(NAME)
PAIRS = {
    "good": GOOD,
    "named": ROOT.issue("other.internal", "*.shop.internal"),
    "unknown": Authority.make("Somebody else's root").issue(NAME),
    "expired": ROOT.issue(NAME, not_after=-DAY),
    "pinned": self_signed("whatever", not_after=-DAY),
}


class Place(NamedTuple):
    """A running snigate with a route for each backend, HOST.example for the backend HOST."""

    snigate: Snigate
    ports: dict[str, int]

    def ask(self, host: str) -> bytes:
        """What the backend answers; its body."""
        with connect(self.snigate.port, f"{host}.example") as client:
            return request(client, host=NAME).rpartition(b"\n")[2]


def block(directory: Path, name: str, pair: Pair, port: int, options: str = "") -> str:
    certificate, key = pair.write(directory, name)
    return (
        f"server {{ listen 127.0.0.1:{port} ssl {options}; ssl_certificate {certificate}; ssl_certificate_key {key};\n"
        "  ssl_protocols TLSv1.2 TLSv1.3;\n"
        '  return 200 "$ssl_protocol $ssl_server_name [$ssl_alpn_protocol] $proxy_protocol_addr"; }\n'
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("backend-tls")
    (directory / "ca.pem").write_bytes(ROOT.pem)
    ports = {name: free_port() for name in (*PAIRS, "told")}
    blocks = "".join(block(directory / "pairs", name, pair, ports[name]) for name, pair in PAIRS.items())
    blocks += block(directory / "pairs", "told", GOOD, ports["told"], "proxy_protocol")
    verified = 'tls = "verify"\ntls_ca = "ca.pem"\ntls_name = "app.internal"\n'
    pin, other = (pin_of(PAIRS[name].certificate) for name in ("pinned", "good"))
    backends = {
        **{name: (name, f'client_address = "none"\n{verified}') for name in ("good", "named", "unknown", "expired")},
        "pin": ("pinned", f'client_address = "none"\ntls = "verify"\ntls_pin = ["{other}", "{pin}"]\n'),
        "wrong-pin": ("pinned", f'client_address = "none"\ntls = "verify"\ntls_pin = ["{other}"]\n'),
        "told": ("told", f'client_address = "proxy-v1"\n{verified}check = "http"\ncheck_interval = "1s"\n'),
        "plain": ("plain", f'client_address = "none"\n{verified}'),
    }
    home = directory / "nginx"
    ports["plain"] = free_port()
    blocks += f"server {{ listen 127.0.0.1:{ports['plain']}; return 200 plain; }}\n"
    text = "".join(
        f'[backends.{name}]\nservers = ["127.0.0.1:{ports[server]}"]\n{keys}'
        for name, (server, keys) in backends.items()
    )
    text += '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "good"\n'
    text += "".join(f'[[listeners.routes]]\nhosts = ["{name}.example"]\nbackend = "{name}"\n' for name in backends)
    with nginx(home, blocks, ports["good"]), Snigate(directory, text) as snigate:
        yield Place(snigate, ports)


def test_a_server_is_verified_by_a_private_authority_and_its_name_and_spoken_to_without_alpn(place: Place) -> None:
    assert place.ask("good") == b"TLSv1.3 app.internal [] "


def test_a_proxy_header_goes_before_tls_and_checks_leave_no_error_in_the_servers_log(place: Place) -> None:
    assert place.ask("told") == b"TLSv1.3 app.internal [] 127.0.0.1"
    assert place.snigate.metric("snigate_backend_up", backend="told") == 1
    assert "broken header" not in (place.snigate.directory / "nginx" / "nginx.out").read_text()


def test_a_pinned_key_is_accepted_whatever_its_certificate_says(place: Place) -> None:
    assert place.ask("pin").startswith(b"TLSv1.3 ")


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (
            "named",
            "its certificate is for other.internal, *.shop.internal, not for app.internal "
            "(say by tls_name what it is for, or replace it)",
        ),
        ("unknown", "its certificate comes from no authority in tls_ca, or the server leaves out an intermediate"),
        ("expired", "its certificate expired on 20"),
        ("wrong-pin", f"its public key has the pin {pin_of(PAIRS['pinned'].certificate)}, which is none of tls_pin"),
        ("plain", "it does not answer in TLS (is this its TLS port?)"),
    ],
    ids=["named", "unknown", "expired", "wrong-pin", "plain"],  # why has what each run makes anew
)
def test_a_server_that_is_not_the_right_one_gets_nothing_and_the_log_says_why(
    place: Place, host: str, why: str
) -> None:
    before = place.snigate.metric("snigate_connections_total", outcome="backend_unreachable")
    with opened(place.snigate.port, f"{host}.example") as client:
        try:
            client.send(b"GET /secret HTTP/1.0\r\n\r\n")
            assert client.rest() == (b"", "RST")
        except ConnectionError:  # the reset came before the request was sent
            pass
    port = place.ports.get(host, place.ports["pinned"])
    assert f"backend {host}: server 127.0.0.1:{port} cannot be reached: {why}" in place.snigate.log
    wait_for(
        lambda: place.snigate.metric("snigate_connections_total", outcome="backend_unreachable") == before + 1,
        "it is counted",
    )
    assert place.snigate.metric("snigate_backend_up", backend=host) == 0


class Cut(NamedTuple):
    """A snigate before a TLS backend that the test plays."""

    snigate: Snigate
    backend: PlayedBackend
    context: ssl.SSLContext

    def accept(self) -> ssl.SSLSocket:
        """The next connection, its handshake done."""
        return self.context.wrap_socket(self.backend.accept(), server_side=True)


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Cut]:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*GOOD.write(tmp_path / "pair"))
    with PlayedBackend() as backend:
        text = (
            f'[backends.web]\nservers = ["127.0.0.1:{backend.port}"]\nclient_address = "none"\n'
            'tls = "verify"\ntls_ca = "ca.pem"\ntls_name = "app.internal"\n'
            '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "web"\n'
        )
        with Snigate(tmp_path, text) as snigate:
            backend.accept().close()  # start-up's own look at the listener
            yield Cut(snigate, backend, context)


def test_a_backend_that_cuts_its_stream_short_never_looks_clean_to_the_client(cut: Cut) -> None:
    with opened(cut.snigate.port) as client, cut.accept() as server:
        server.sendall(b"half an ans")
        socket.socket.shutdown(server, socket.SHUT_WR)  # FIN, and no close_notify
        data, end = client.rest()
        assert data == b"half an ans"
        assert end != "close_notify"
    wait_for(
        lambda: cut.snigate.metric("snigate_connections_total", outcome="truncated_by_backend") == 1, "it is counted"
    )


def test_a_backend_that_ends_its_stream_properly_does_look_clean(cut: Cut) -> None:
    before = cut.snigate.metric("snigate_connections_total", outcome="served")
    with opened(cut.snigate.port) as client, cut.accept() as server:
        client.send(b"question")
        assert server.recv(100) == b"question"
        client.send_close_notify()
        assert server.recv(100) == b"", "the client's end has come as close_notify"
        server.sendall(b"answer")
        server.unwrap().close()
        assert client.rest() == (b"answer", "close_notify")
    wait_for(lambda: cut.snigate.metric("snigate_connections_total", outcome="served") == before + 1, "it is counted")


def test_a_backend_that_goes_away_in_its_handshake_is_one_that_cannot_be_reached(cut: Cut) -> None:
    with opened(cut.snigate.port) as client:
        cut.backend.accept().close()
        assert client.rest() == (b"", "RST")
    wait_for(lambda: "during the TLS handshake" in cut.snigate.log, "the log says so")


def test_authorities_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    text = (
        '[backends.web]\nservers = ["app.internal:1"]\ntls = "verify"\ntls_ca = "missing.pem"\n'
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "web"\n'
    )
    snigate = Snigate(tmp_path, text)
    ended = subprocess.run([PROGRAM, "serve", "--config", snigate.file], capture_output=True, timeout=30, check=False)
    assert ended.returncode != 0
    said = ended.stderr.decode() + ended.stdout.decode()
    assert f"backend web: tls_ca: {tmp_path}/missing.pem: cannot be read (No such file or directory)" in said
