"""The plain HTTP listener, asked by curl and by strangers: redirects, ACME challenges, and what is refused."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.proxy_protocol import encode_v2
from tests.support import client_hellos as hellos
from tests.support.backend import PlayedBackend, rest
from tests.support.ports import free_port
from tests.support.servers import needs, nginx
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT
from tests.support.tls_socket import exchange_raw

DEADLINE = 1.5  # seconds, handshake_timeout in these tests
GRACE = 3.0  # seconds that a busy machine may be late
PROXY = "127.0.0.5"
CHALLENGE = "/.well-known/acme-challenge/"


class Plain(NamedTuple):
    """A snigate with a TLS listener that serves the welcome page, and plain ones that redirect."""

    snigate: Snigate
    port: int  # redirects to port 443; its challenges come from files
    to_8443: int  # redirects to port 8443, takes PROXY headers, and has no challenges
    challenges: Path

    def outcomes(self, outcome: str) -> float:
        return self.snigate.metric("snigate_connections_total", listener="plain", outcome=outcome)

    def counts(self, outcome: str, before: float, more: int = 1) -> None:
        """Wait until `outcome` was counted so often since `before`."""
        wait_for(lambda: self.outcomes(outcome) == before + more, f"{outcome} is counted")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    directory = tmp_path_factory.mktemp("plain")
    port, to_8443 = free_port(), free_port()
    listener = '[[listeners]]\nname = "{}"\nbind = ["127.0.0.1:{}"]\nprotocol = "http-redirect"\n'
    configuration = (
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'
        + listener.format("plain", port)
        + 'acme_webroot = "root"\n'
        + listener.format("other", to_8443)
        + f'redirect_port = 8443\naccept_proxy_from = ["{PROXY}/32"]\n'
        + f'[server]\nworkers = 2\nstate_directory = "{directory}/state"\n'
        + f'handshake_timeout = "{DEADLINE * 1000:.0f}ms"\n'
    )
    challenges = directory / "root" / CHALLENGE.strip("/")
    challenges.mkdir(parents=True)
    with Snigate(directory, configuration) as snigate:
        yield Plain(snigate, port, to_8443, challenges)


def curl(*arguments: str) -> str:
    """What curl -v says and gets."""
    return subprocess.run(
        [needs("curl"), "-sSvk", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    ).stdout


def ask(port: int, head: str, *, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a request, which the connection's orderly end follows."""
    answer, end = exchange_raw(port, head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
    assert end == "FIN"
    top, _, content = answer.partition(b"\r\n\r\n")
    status, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(headers) == len(lines)
    assert headers["connection"] == "close"
    return int(status.split()[1]), headers, content


def test_curl_is_sent_on_to_https_with_path_and_query(plain: Plain) -> None:
    before = plain.outcomes("redirected")
    said = curl("--connect-to", f"::127.0.0.1:{plain.port}", "http://www.example.com/a/b?c=d&e=%20f")
    assert "< HTTP/1.1 301 Moved Permanently" in said
    assert "< location: https://www.example.com/a/b?c=d&e=%20f\n" in said.replace("\r", "")
    plain.counts("redirected", before)


def test_curl_that_follows_arrives_at_the_tls_listener(plain: Plain) -> None:
    said = curl(
        *("-L", "--connect-to", f"www.example.com:80:127.0.0.1:{plain.port}"),
        *("--connect-to", f"www.example.com:443:127.0.0.1:{plain.snigate.port}", "http://www.example.com/"),
    )
    assert "< HTTP/1.1 301 " in said
    assert "<h1>snigate works</h1>" in said
    assert "<td>www.example.com</td>" in said


def test_another_port_is_part_of_the_address(plain: Plain) -> None:
    assert ask(plain.to_8443, "GET /x HTTP/1.1\nHost: a.example:80")[1]["location"] == "https://a.example:8443/x"
    assert ask(plain.to_8443, "GET /x HTTP/1.1\nHost: [::1]:80")[1]["location"] == "https://[::1]:8443/x"


def test_head_is_answered_without_a_body(plain: Plain) -> None:
    status, headers, body = ask(plain.port, "HEAD /x HTTP/1.1\nHost: a.example")
    assert (status, headers["location"], body) == (301, "https://a.example/x", b"")
    status, headers, body = ask(plain.port, "GET /x HTTP/1.0\nHost: a.example")
    assert (status, headers["location"]) == (301, "https://a.example/x")
    assert int(headers["content-length"]) == len(body) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
def test_other_methods_stay_what_they_are(plain: Plain, method: str) -> None:
    status, headers, _ = ask(plain.port, f"{method} /x HTTP/1.1\nHost: a.example\nContent-Length: 5", body=b"hello")
    assert (status, headers["location"]) == (308, "https://a.example/x")


def test_a_client_that_is_still_sending_a_large_body_reads_its_answer(plain: Plain, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(os.urandom(8 << 20))
    said = curl(
        *("--connect-to", f"::127.0.0.1:{plain.port}", "-H", "Expect:", "--data-binary", f"@{tmp_path}/body"),
        "http://a.example/",
    )
    assert "< HTTP/1.1 308 Permanent Redirect" in said


REFUSED = {
    "no Host in HTTP/1.1": ("GET / HTTP/1.1", 400),
    "no Host in HTTP/1.0": ("GET / HTTP/1.0", 400),
    "two Hosts": ("GET / HTTP/1.1\nHost: a.example\nHost: b.example", 400),
    "a Host that is none": ("GET / HTTP/1.1\nHost: a.example/@b", 400),
    "an odd address": ("GET / HTTP/1.1\nHost: 0x7f.1", 400),
    "a Host that is not ASCII": ("GET / HTTP/1.1\nHost: b\xfccher.example", 400),
    "CONNECT": ("CONNECT a.example:443 HTTP/1.1\nHost: a.example", 400),
    "an asterisk": ("OPTIONS * HTTP/1.1\nHost: a.example", 400),
    "another scheme": ("GET ftp://a.example/ HTTP/1.1\nHost: a.example", 400),
    "a target with a space": ("GET /a b HTTP/1.1\nHost: a.example", 400),
    "a folded header": ("GET / HTTP/1.1\nHost: a.example\n b", 400),
    "a header without a colon": ("GET / HTTP/1.1\nHost: a.example\nX", 400),
    "two lengths": ("POST / HTTP/1.1\nHost: a.example\nContent-Length: 1\nContent-Length: 2", 400),
    "HTTP/2": ("PRI * HTTP/2.0", 400),
    "no HTTP": ("SSH-2.0-OpenSSH_9.2", 400),
    "a head that is too large": ("GET / HTTP/1.1\nHost: a.example\nX: " + "x" * 40_000, 431),
    "too many headers": ("GET / HTTP/1.1\nHost: a.example\n" + "\n".join(["X: y"] * 10_000), 431),
    "a target that is too long": ("GET /" + "x" * 40_000 + " HTTP/1.1\nHost: a.example", 431),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_leads_nowhere_is_refused_in_words_and_counted(plain: Plain, case: str) -> None:
    head, expected = REFUSED[case]
    before = plain.outcomes("bad_request")
    status, headers, body = ask(plain.port, head)
    assert status == expected
    assert "location" not in headers
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert body.endswith(b"\n")
    plain.counts("bad_request", before)


def test_tls_on_the_plain_port_is_refused_in_plain_text(plain: Plain) -> None:
    answer, end = exchange_raw(plain.port, hellos.from_stdlib())
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert end == "FIN"


@pytest.mark.parametrize("first", ["", "GET / HTTP/1.1\r\nHost: a.example\r\n"])
def test_a_head_that_is_not_there_in_time_is_waited_for_no_longer(plain: Plain, first: str) -> None:
    before = plain.outcomes("idle")
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", plain.port), timeout=DEADLINE / 20) as sock:
        sock.sendall(first.encode())
        ended = False
        while not ended and time.monotonic() - began < DEADLINE + GRACE:
            if first:
                sock.sendall(b"X")  # a header that never ends, one byte after the other
            try:
                ended = sock.recv(1) == b""
            except TimeoutError:
                continue
        assert ended
    assert time.monotonic() - began > DEADLINE * 0.9
    plain.counts("idle", before)


def test_clients_that_go_away_are_counted(plain: Plain) -> None:
    before = plain.outcomes("truncated_by_client")
    assert exchange_raw(plain.port, b"GET / HT", finish=True) == (b"", "FIN")
    socket.create_connection(("127.0.0.1", plain.port), timeout=TIMEOUT).close()
    plain.counts("truncated_by_client", before, 2)


def test_each_connection_is_one_line_in_the_access_log(plain: Plain) -> None:
    ask(plain.port, "GET /once HTTP/1.1\nHost: a.example")
    ask(plain.port, "GET / HTTP/1.1\nHost: a b")
    lines = plain.snigate.log.splitlines
    wait_for(
        lambda: any(" access plain " in line and line.endswith(" end=redirected") for line in lines()), "redirected"
    )
    wait_for(
        lambda: any(
            " access plain " in line and line.endswith("end=bad_request by=client reason=bad_host") for line in lines()
        ),
        "refused",
    )


def test_a_challenge_is_answered_from_its_file(plain: Plain) -> None:
    (plain.challenges / "Token_-1").write_bytes(b"Token_-1.thumbprint")
    before = plain.outcomes("served")
    status, headers, body = ask(plain.port, f"GET {CHALLENGE}Token_-1 HTTP/1.1\nHost: a.example")
    assert (status, headers["content-type"], body) == (200, "application/octet-stream", b"Token_-1.thumbprint")
    status, headers, body = ask(plain.port, f"HEAD {CHALLENGE}Token_-1 HTTP/1.1\nHost: a.example")
    assert (status, headers["content-length"], body) == (200, "19", b"")
    assert ask(plain.port, f"GET {CHALLENGE}missing HTTP/1.1\nHost: a.example")[0] == 404
    plain.counts("served", before, 3)
    assert ask(plain.port, f"POST {CHALLENGE}Token_-1 HTTP/1.1\nHost: a.example")[0] == 308
    assert ask(plain.port, f"GET {CHALLENGE}Token_-1 HTTP/1.1\nHost: a b")[0] == 400
    assert ask(plain.to_8443, f"GET {CHALLENGE}Token_-1 HTTP/1.1\nHost: a.example")[0] == 301


@pytest.mark.parametrize(
    "path",
    [
        "../../../secret",
        "..%2f..%2f..%2fsecret",
        "%2e%2e/secret",
        "/etc/passwd",
        ".",
        "",
        "a/../../../../secret",
        "x\\y",
    ],
)
def test_no_path_leads_out_of_the_directory(plain: Plain, path: str) -> None:
    (plain.challenges.parents[2] / "secret").write_text("secret")
    status, headers, body = ask(plain.port, f"GET {CHALLENGE}{path} HTTP/1.1\nHost: a.example")
    location = f"https://a.example{CHALLENGE}{path}"
    assert (status, headers["location"], body) == (301, location, f"This is at {location}\n".encode())


def test_a_link_out_of_the_directory_and_a_large_file_are_not_there(plain: Plain) -> None:
    (plain.challenges / "link").symlink_to("/etc/passwd")
    (plain.challenges / "large").write_bytes(bytes((64 << 10) + 1))
    for token in ("link", "large"):
        assert ask(plain.port, f"GET {CHALLENGE}{token} HTTP/1.1\nHost: a.example")[0] == 404


def test_a_trusted_proxy_tells_who_asks(plain: Plain) -> None:
    head = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
    header = encode_v2(("203.0.113.9", 4711), ("198.51.100.1", 80))
    failed = plain.snigate.metric("snigate_handshake_failures_total", listener="other", reason="proxy_header_missing")
    for data, expected in ((header + head, b"HTTP/1.1 301 "), (head, b"")):
        with socket.create_connection(("127.0.0.1", plain.to_8443), timeout=TIMEOUT, source_address=(PROXY, 0)) as sock:
            sock.sendall(data)
            answer, end = rest(sock)
            assert answer[:13] == expected
            assert end == "FIN"
    wait_for(lambda: " access other 203.0.113.9:4711 " in plain.snigate.log, "the access log names the client")
    wait_for(
        lambda: (
            plain.snigate.metric("snigate_handshake_failures_total", listener="other", reason="proxy_header_missing")
            == failed + 1
        ),
        "the missing header is counted",
    )
    assert ask(plain.to_8443, "PROXY TCP4 203.0.113.9 198.51.100.1 1 80\nGET / HTTP/1.1\nHost: a.example")[0] == 400


def with_acme_backend(port: int, backend: str, table: str = "") -> str:
    return (
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
        f'[[listeners]]\nname = "plain"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http-redirect"\n'
        f'acme_backend = "{backend}"\n{table}'
    )


@pytest.mark.parametrize("named", [False, True])
def test_a_challenge_is_answered_by_nginx_behind(tmp_path: Path, named: bool) -> None:
    port, upstream = free_port(), free_port()
    home = tmp_path / "nginx"
    files = home / "files" / CHALLENGE.strip("/")
    server = f"server {{ listen 127.0.0.1:{upstream}{' proxy_protocol' if named else ''}; root {home}/files; }}"
    table = f'[backends.acme]\nservers = ["127.0.0.1:{upstream}"]\nclient_address = "proxy-v2"\n' if named else ""
    configuration = with_acme_backend(port, "acme" if named else f"127.0.0.1:{upstream}", table)
    with nginx(home, server, upstream), Snigate(tmp_path, configuration) as snigate:
        files.mkdir(parents=True)
        (files / "token").write_bytes(b"token.thumbprint" * 10_000)
        said = curl(
            *("--interface", "127.0.0.77", "--connect-to", f"::127.0.0.1:{port}", "-o", str(tmp_path / "got")),
            f"http://a.example{CHALLENGE}token?x=y",
        )
        assert "< HTTP/1.1 200 OK" in said
        assert "< Server: nginx" in said
        assert (tmp_path / "got").read_bytes() == b"token.thumbprint" * 10_000
        assert ask(port, f"GET {CHALLENGE}missing HTTP/1.1\nHost: a.example\nX-Evil: y")[0] == 404
        assert ask(port, "GET /other HTTP/1.1\nHost: a.example")[0] == 301
        logged = "127.0.0.77 " if named else "- - "
        wait_for(lambda: (home / "access.log").read_text().startswith(logged), "nginx has logged who asked")
        wait_for(
            lambda: snigate.metric("snigate_connections_total", listener="plain", outcome="served") == 2, "both count"
        )
        assert snigate.metric("snigate_bytes_total", listener="plain", direction="to_client") > 160_000
        assert snigate.metric("snigate_backend_connect_duration_seconds_count") == 2 + snigate.metric(
            "snigate_backend_connect_duration_seconds_count", backend="welcome"
        )


def test_what_the_backend_gets_is_made_anew(tmp_path: Path) -> None:
    port = free_port()
    with (
        PlayedBackend() as backend,
        Snigate(tmp_path, with_acme_backend(port, f"127.0.0.1:{backend.port}")),
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as sock,
    ):
        sock.sendall(
            f"GET http://B.example:80{CHALLENGE}t HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 1.2.3.4\r\n"
            "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET /smuggled HTTP/1.1\r\n\r\n".encode()
        )
        with backend.accept() as server:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += server.recv(4096)
            assert head.decode().split("\r\n") == [
                f"GET {CHALLENGE}t HTTP/1.1",
                "Host: b.example",
                "User-Agent: snigate",
                "Connection: close",
                "",
                "",
            ]
            server.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nanswer")
        assert rest(sock) == (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nanswer", "FIN")


def test_a_backend_that_breaks_off_breaks_the_answer_off(tmp_path: Path) -> None:
    port = free_port()
    with (
        PlayedBackend() as backend,
        Snigate(tmp_path, with_acme_backend(port, f"127.0.0.1:{backend.port}")) as snigate,
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as sock,
    ):
        sock.sendall(f"GET {CHALLENGE}t HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
        server = backend.accept()
        server.sendall(b"HTTP/1.1 200 OK\r\n")
        assert sock.recv(17, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK\r\n"
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        assert rest(sock) == (b"", "RST")
        wait_for(
            lambda: snigate.metric("snigate_connections_total", listener="plain", outcome="reset_by_backend") == 1,
            "it is counted",
        )


def test_a_backend_that_is_not_there_is_a_502_that_the_log_explains(tmp_path: Path) -> None:
    port, nobody = free_port(), free_port()
    with Snigate(tmp_path, with_acme_backend(port, f"127.0.0.1:{nobody}")) as snigate:
        assert ask(port, f"GET {CHALLENGE}t HTTP/1.1\nHost: a.example")[0] == 502
        wait_for(
            lambda: snigate.metric("snigate_connections_total", listener="plain", outcome="backend_unreachable") == 1,
            "it is counted",
        )
        assert snigate.metric("snigate_backend_connect_failures_total", backend=f"127.0.0.1:{nobody}") == 1
        assert "cannot be reached: Connection refused; its clients are turned away until it can" in snigate.log


def test_a_conversation_that_outlives_drain_is_cut_and_accounted_for(tmp_path: Path) -> None:
    port = free_port()
    with PlayedBackend() as backend:
        text = with_acme_backend(port, f"127.0.0.1:{backend.port}")
        text += f'[server]\nworkers = 1\nstate_directory = "{tmp_path}/state"\ndrain = "300ms"\n'
        with Snigate(tmp_path, text) as snigate, socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
            sock.sendall(f"GET {CHALLENGE}t HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
            with backend.accept():
                assert snigate.process is not None
                snigate.process.send_signal(signal.SIGTERM)
                assert rest(sock) == (b"", "RST")
            assert snigate.process.wait(TIMEOUT) == 0
        assert [
            line
            for line in snigate.log.splitlines()
            if " access plain " in line and line.endswith(" end=drained by=snigate")
        ]
