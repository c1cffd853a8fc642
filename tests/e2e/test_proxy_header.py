"""PROXY headers from proxies that are trusted, and from everybody else; a real HAProxy before and behind snigate."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxyprotocol.result import ProxyResultIPv4
from proxyprotocol.v2 import ProxyProtocolV2

from proxy import proxy_protocol as pp
from proxy.proxy_protocol import encode_v1, encode_v2
from tests.support import client_hellos as hellos
from tests.support.backend import PlayedBackend, read, rest
from tests.support.engine import MemoryClient
from tests.support.haproxy import haproxy, receiver, sender
from tests.support.pki import self_signed
from tests.support.ports import free_port
from tests.support.servers import needs
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT, connect, request
from tests.support.tls_socket import opened

PROXY = "127.0.0.5"  # the only address that may say who a client is
CLIENT = ("203.0.113.9", 4711)
REACHED = ("198.51.100.1", 443)
DEADLINE = 2.0  # seconds, handshake_timeout in these tests
GRACE = 3.0  # seconds that a busy machine may be late
FORMS = {
    "v1": encode_v1(CLIENT, REACHED),
    "v2": encode_v2(CLIENT, REACHED, [(pp.PP2_TYPE_AUTHORITY, b"elsewhere.example")]),
}


@pytest.fixture(scope="module")
def snigate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snigate]:
    directory = tmp_path_factory.mktemp("proxied")
    one = Snigate(
        directory,
        f'[server]\nworkers = 1\nstate_directory = "{directory}/state"\n'
        f'handshake_timeout = "{DEADLINE * 1000:.0f}ms"\n'
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
        f'accept_proxy_from = ["{PROXY}/32", "2001:db8::/32"]\n',
    )
    self_signed(addresses=(REACHED[0],), common_name="by address").write(one.certs, "address")
    with one:
        yield one


class ProxiedClient:
    """A TLS client whose first segment holds `header` and its ClientHello, from the trusted proxy's address."""

    def __init__(self, port: int, header: bytes, name: bytes | None = b"www.example.com", *, step: int = 0) -> None:
        self.socket = proxy_socket(port)
        self.tls = MemoryClient(name=name)
        self.tls.handshake()
        first = header + self.tls.output()
        for at in range(0, len(first), step or len(first)):
            self.socket.sendall(first[at : at + (step or len(first))])

    def page(self) -> str:
        """The welcome page."""
        with self.socket:
            while not self.tls.handshake():
                self.socket.sendall(self.tls.output())
                data = self.socket.recv(1 << 16)
                assert data, "ended in the handshake"
                self.tls.receive(data)
            self.socket.sendall(self.tls.output() + self.tls.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
            self.tls.receive(rest(self.socket)[0])
            return self.tls.read().decode()


def proxy_socket(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT, source_address=(PROXY, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def sent(port: int, data: bytes) -> tuple[bytes, str]:
    """What a trusted proxy that sends this is told, and how it ends."""
    with proxy_socket(port) as sock:
        sock.sendall(data)
        return rest(sock)


def failures(snigate: Snigate, reason: str) -> float:
    return snigate.metric("snigate_handshake_failures_total", reason=reason)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [0, 1, 20])
def test_a_trusted_proxy_s_header_tells_the_client_and_loses_none_of_its_bytes(
    snigate: Snigate, form: str, step: int
) -> None:
    page = ProxiedClient(snigate.port, FORMS[form], step=step).page()
    assert f"<td>{CLIENT[0]} port {CLIENT[1]}</td>" in page
    assert f"<td>{REACHED[0]} port {REACHED[1]}, listener web</td>" in page
    assert "<td>www.example.com</td>" in page
    wait_for(lambda: f" access web {CLIENT[0]}:{CLIENT[1]} id=" in snigate.log, "the access log names the client")


@pytest.mark.parametrize("form", FORMS)
def test_the_address_in_the_header_decides_between_certificates_with_addresses(snigate: Snigate, form: str) -> None:
    page = ProxiedClient(snigate.port, FORMS[form], name=None).page()
    assert f"<td>{REACHED[0]}</td>" in page  # matched by
    with connect(snigate.port) as tls:
        assert b"9 (the default certificate)" in request(tls)


@pytest.mark.parametrize("header", [encode_v2(None, None, local=True), encode_v1(None, None), encode_v2(None, None)])
def test_without_an_address_in_the_header_the_connection_s_own_stay(snigate: Snigate, header: bytes) -> None:
    page = ProxiedClient(snigate.port, header).page()
    assert f"<td>{PROXY} port " in page
    assert f"<td>127.0.0.1 port {snigate.port}, listener web</td>" in page


def test_nobody_else_is_believed_and_nobody_else_needs_a_header(snigate: Snigate) -> None:
    before = failures(snigate, "not_tls")
    for header in FORMS.values():
        with socket.create_connection(("127.0.0.1", snigate.port), timeout=TIMEOUT) as sock:
            sock.sendall(header + hellos.from_stdlib())
            assert rest(sock) == (b"", "FIN")
    wait_for(lambda: failures(snigate, "not_tls") == before + 2, "both are counted")
    with connect(snigate.port, "www.example.com") as tls:
        assert b"<td>127.0.0.1 port " in request(tls)


CASES = {
    "a ClientHello at once": (hellos.from_stdlib(), "proxy_header_missing"),
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "proxy_header_missing"),
    "a line that is too long": (b"PROXY UNKNOWN" + b" " * 200, "proxy_header_invalid"),
    "no numbers": (b"PROXY TCP4 a b c d\r\n" + hellos.from_stdlib(), "proxy_header_invalid"),
    "more than the cap": (pp.SIGNATURE_V2 + b"\x21\x11\xff\xff", "proxy_header_invalid"),
    "a wrong checksum": (encode_v2(CLIENT, REACHED, [(3, b"none")]) + hellos.from_stdlib(), "proxy_header_invalid"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_trusted_proxy_that_introduces_nobody_is_closed_and_counted(snigate: Snigate, case: str) -> None:
    data, reason = CASES[case]
    before = failures(snigate, reason)
    assert sent(snigate.port, data) == (b"", "FIN")
    wait_for(lambda: failures(snigate, reason) == before + 1, "it is counted")


def test_the_log_complains_once_and_not_each_time(snigate: Snigate) -> None:
    for _ in range(3):
        sent(snigate.port, b"GET / HTTP/1.1\r\n\r\n")
    wait_for(lambda: snigate.log.count("reason=proxy_header_missing") >= 3, "each is in the access log")
    complaints = re.findall(r"listener web: 127\.0\.0\.5, which accept_proxy_from names: .+", snigate.log)
    assert len(complaints) == 1
    assert "Make it send the header, or take it out of the list" in complaints[0]


def test_a_client_is_counted_by_its_own_address_and_the_proxy_by_none(tmp_path: Path) -> None:
    configuration = (
        f'[server]\nworkers = 1\nstate_directory = "{tmp_path}/state"\nmax_connections_per_client = 2\n'
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
        f'accept_proxy_from = ["{PROXY}/32"]\n'
    )
    with Snigate(tmp_path, configuration) as snigate:
        hosts = [f"203.0.113.{number // 2}" for number in range(6)]
        held = [ProxiedClient(snigate.port, encode_v2((host, 1), REACHED)) for host in hosts]
        wait_for(lambda: snigate.metric("snigate_connections_active") == 6, "three clients hold two connections each")
        assert sent(snigate.port, encode_v1((hosts[0], 2), REACHED)) == (b"", "RST")
        wait_for(lambda: snigate.metric("snigate_connections_total", outcome="refused") == 1, "the reset is counted")
        wait_for(lambda: f" access web {hosts[0]}:2 " in snigate.log, "the reset is in the access log")
        assert f"<td>{hosts[0]} port 1</td>" in held.pop(0).page()
        for one in held:
            one.socket.close()
        wait_for(lambda: snigate.metric("snigate_connections_active") == 0, "they have gone")
        again = ProxiedClient(snigate.port, encode_v1((hosts[0], 3), REACHED))
        assert f"<td>{hosts[0]} port 3</td>" in again.page()


@pytest.mark.parametrize("slow", ["header", "hello"])
def test_one_deadline_covers_the_header_and_the_handshake_and_no_byte_moves_it(snigate: Snigate, slow: str) -> None:
    before = failures(snigate, "timeout")
    data = FORMS["v2"] + hellos.from_stdlib() if slow == "header" else hellos.from_stdlib()
    began = time.monotonic()
    with proxy_socket(snigate.port) as sock:
        if slow == "hello":
            sock.sendall(FORMS["v2"])
        sock.settimeout(DEADLINE / 20)
        ended = False
        for byte in data:
            sock.sendall(bytes([byte]))
            try:
                ended = sock.recv(1) == b""
            except TimeoutError:
                continue
            break
        assert ended
    assert DEADLINE * 0.9 < time.monotonic() - began < DEADLINE + GRACE
    wait_for(lambda: failures(snigate, "timeout") == before + 1, "it is counted")


def test_a_proxy_that_connects_and_goes_away_is_no_more_than_a_line_in_the_log(snigate: Snigate) -> None:
    before = failures(snigate, "disconnected")
    proxy_socket(snigate.port).close()
    with proxy_socket(snigate.port) as sock:
        sock.sendall(FORMS["v2"][:20])
    wait_for(lambda: failures(snigate, "disconnected") == before + 2, "both are counted")


def test_plain_http_behind_a_header_is_told_to_speak_https(snigate: Snigate) -> None:
    answer, end = sent(snigate.port, FORMS["v1"] + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert end == "FIN"


@pytest.mark.parametrize("word", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options ssl,unique-id,crc32c"])
def test_haproxy_in_front_introduces_its_clients(snigate: Snigate, tmp_path: Path, word: str) -> None:
    port = free_port()
    with haproxy(tmp_path / "haproxy", port, sender(port, snigate.port, word, PROXY)):
        page = subprocess.run(
            [needs("curl"), "-sSkf", "--interface", "127.0.0.77", f"https://127.0.0.1:{port}/"],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout
    assert "<td>127.0.0.77 port " in page
    assert f"<td>127.0.0.1 port {port}, listener web</td>" in page


def test_haproxy_s_health_checks_are_its_own_connections(tmp_path: Path) -> None:
    port = free_port()
    with Snigate(
        tmp_path,
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
        f'accept_proxy_from = ["{PROXY}/32"]\n',
    ) as snigate:
        word = "send-proxy-v2 check inter 50ms check-ssl check-send-proxy verify none"
        with haproxy(tmp_path / "haproxy", port, sender(port, snigate.port, word, PROXY)):
            wait_for(lambda: f" access web {PROXY}:" in snigate.log, "a check is in the access log")
        assert failures(snigate, "proxy_header_missing") == failures(snigate, "proxy_header_invalid") == 0
        assert snigate.metric("snigate_handshakes_total") > 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_behind_is_told_the_client_that_the_proxy_in_front_told_us(tmp_path: Path, version: str) -> None:
    front, back = free_port(), free_port()
    words = {"v1": "send-proxy", "v2": "send-proxy-v2"}
    with haproxy(tmp_path / "back", back, receiver(back)) as log:
        configuration = (
            f'[backends.haproxy]\nservers = ["127.0.0.1:{back}"]\nclient_address = "proxy-{version}"\n'
            '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "haproxy"\n'
            f'accept_proxy_from = ["{PROXY}/32"]\n'
        )
        with (
            Snigate(tmp_path, configuration) as snigate,
            haproxy(tmp_path / "front", front, sender(front, snigate.port, words[version], PROXY)),
        ):
            said = subprocess.run(
                [
                    *(needs("curl"), "-sSkf", "--interface", "127.0.0.77", "--connect-to", f"::127.0.0.1:{front}"),
                    "https://www.example.com/",
                ],
                check=True,
                capture_output=True,
                text=True,
                timeout=30,
            ).stdout
            match = re.fullmatch(
                rf"src=127\.0\.0\.77:(\d+) dst=127\.0\.0\.1:{front} authority=(\S*) id=(\S*)", said.strip()
            )
            assert match is not None, said
            port, authority, unique_id = match.groups()
            wait_for(lambda: f"told src=127.0.0.77:{port} " in log.read_text(), "HAProxy has logged the client")
            wait_for(lambda: f" access web 127.0.0.77:{port} id=" in snigate.log, "snigate has logged the client")
            if version == "v2":
                assert authority == "www.example.com"
                assert f" access web 127.0.0.77:{port} id={unique_id} " in snigate.log


@pytest.mark.parametrize(
    ("key_type", "signature", "key"),
    [("ecdsa-p256", "ecdsa-with-SHA256", "EC256"), ("rsa-2048", "RSA-SHA256", "RSA2048")],
)
def test_a_backend_is_told_how_the_client_s_tls_is_and_what_certificate_it_saw(
    tmp_path: Path, key_type: str, signature: str, key: str
) -> None:
    with PlayedBackend() as backend:
        snigate = Snigate(
            tmp_path,
            f'[backends.b]\nservers = ["127.0.0.1:{backend.port}"]\n'
            '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
            '[[listeners.routes]]\nhosts = ["www.example.com"]\nbackend = "b"\n',
        )
        self_signed("www.example.com", key_type=key_type).write(snigate.certs)
        with snigate:
            ids = set()
            for _ in range(2):
                with opened(snigate.port, "www.example.com") as client, backend.accept() as server:
                    fixed = read(server, 16)
                    header = ProxyProtocolV2().unpack(fixed + read(server, int.from_bytes(fixed[14:])))
                    assert isinstance(header, ProxyResultIPv4)
                    assert header.source[1] == client.socket.getsockname()[1]
                    assert header.tlv.authority == "www.example.com"
                    ssl = header.tlv.ssl
                    assert (ssl.has_ssl, ssl.version, ssl.sig_alg, ssl.key_alg) == (True, "TLSv1.3", signature, key)
                    assert header.tlv.unique_id is not None
                    ids.add(header.tlv.unique_id)
            assert len(ids) == 2
