"""Mail clients that begin TLS by STARTTLS, over real sockets: all four protocols, and those who abuse them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.backend import rest
from tests.support.mail_server import MailServer
from tests.support.pki import Authority, Pair
from tests.support.ports import free_port
from tests.support.servers import needs
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT, context, see

NAME = "mail.example.com"
# What a client says first, the end of what it is answered, the command that begins TLS, and the go-ahead.
DIALOGUES = {
    "smtp": (b"EHLO me\r\n", b"250 STARTTLS\r\n", b"STARTTLS\r\n", b"220 2.0.0 Ready to start TLS\r\n"),
    "imap": (
        b"a CAPABILITY\r\n",
        b"a OK Capability completed\r\n",
        b"b STARTTLS\r\n",
        b"b OK Begin TLS negotiation now\r\n",
    ),
    "pop3": (b"CAPA\r\n", b"STLS\r\n.\r\n", b"STLS\r\n", b"+OK Begin TLS negotiation now\r\n"),
    "sieve": (
        b"CAPABILITY\r\n",
        b'OK "Capability completed"\r\n',
        b"STARTTLS\r\n",
        b'OK "Begin TLS negotiation now"\r\n',
    ),
}
GREETING_ENDS = {"smtp": b"\r\n", "imap": b"\r\n", "pop3": b"\r\n", "sieve": b'ready"\r\n'}
PROTOCOLS = pytest.mark.parametrize("protocol", list(DIALOGUES))


def configuration(protocol: str, server: int, *, listener: str = "", backend: str = "", limits: str = "") -> str:
    return (
        f'{limits}[backends.mail]\nservers = ["127.0.0.1:{server}"]\nclient_address = "none"\n{backend}'
        f'[[listeners]]\nname = "mail"\nbind = ["127.0.0.1:{{port}}"]\nprotocol = "{protocol}"\ntls = "starttls"\n'
        f'default = "{NAME}"\nbackend = "mail"\n{listener}'
    )


def snigate_for(directory: Path, text: str, *pairs: Pair) -> Snigate:
    one = Snigate(directory, text, workers=1)
    for number, pair in enumerate(pairs):
        pair.write(one.certs, f"pair{number}")
    return one


def until(sock: socket.socket, end: bytes) -> bytes:
    """What comes up to these bytes, and no more."""
    data = bytearray()
    while not data.endswith(end):
        chunk = sock.recv(1)
        assert chunk, f"ended after {bytes(data)!r}"
        data += chunk
    return bytes(data)


def greeted(snigate: Snigate, protocol: str) -> tuple[socket.socket, bytes]:
    sock = socket.create_connection(("127.0.0.1", snigate.port), timeout=TIMEOUT)
    return sock, until(sock, GREETING_ENDS[protocol])


def begin_tls(sock: socket.socket, protocol: str, name: str = NAME) -> ssl.SSLSocket:
    _, _, command, go_ahead = DIALOGUES[protocol]
    sock.sendall(command)
    assert until(sock, b"\r\n") == go_ahead
    return context().wrap_socket(sock, server_hostname=name)


@PROTOCOLS
def test_a_client_begins_tls_and_its_server_hears_what_it_says_then_and_nothing_else(
    tmp_path: Path, protocol: str
) -> None:
    root = Authority.make("Root")
    pairs = root.issue(NAME), root.issue("other.example.com")
    hello, answer_ends, _, _ = DIALOGUES[protocol]
    with MailServer(protocol) as server, snigate_for(tmp_path, configuration(protocol, server.port), *pairs) as snigate:
        for pair, name in zip(pairs, (NAME, "other.example.com"), strict=True):
            sock, _ = greeted(snigate, protocol)
            sock.sendall(hello)
            answer = until(sock, answer_ends)
            assert b"PLAIN" not in answer  # passwords are for later
            tls = begin_tls(sock, protocol, name)
            assert see(tls).fingerprint == pair.fingerprint
            if protocol == "sieve":  # which says them again, RFC 5804 section 2.2
                assert until(tls, b'OK "ready"\r\n').startswith(b'"IMPLEMENTATION" "Played"\r\n"SASL" "PLAIN"\r\n')
            tls.sendall(b"first words\r\n")
            assert until(tls, b"\r\n") == b"heard first words\r\n"
            tls.unwrap()
            tls.close()
        assert server.heard(b"first") == [b"first words\r\n"] * 2


def test_what_the_server_can_do_is_told_before_tls(tmp_path: Path) -> None:
    with MailServer("smtp") as server, snigate_for(tmp_path, configuration("smtp", server.port)) as snigate:
        sock, greeting = greeted(snigate, "smtp")
        assert greeting == b"220 mail.example.com ESMTP Played\r\n"
        sock.sendall(b"EHLO me\r\n")
        assert until(sock, b"250 STARTTLS\r\n") == (
            b"250-mail.example.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"
        )
        sock.sendall(b"MAIL FROM:<a@b.example>\r\nQUIT\r\n")
        assert rest(sock)[0] == b"530 5.7.0 Must issue a STARTTLS command first\r\n221 2.0.0 Bye\r\n"
        sock.close()
        wait_for(lambda: snigate.metric("snigate_connections_total", outcome="before_tls") >= 1, "it is counted")


@PROTOCOLS
def test_commands_behind_starttls_never_reach_the_server_wherever_they_are_cut(tmp_path: Path, protocol: str) -> None:
    _, _, command, go_ahead = DIALOGUES[protocol]
    said = command + b"x INJECTED\r\n"
    with MailServer(protocol) as server, snigate_for(tmp_path, configuration(protocol, server.port)) as snigate:
        for place in range(1, len(said)):
            sock, _ = greeted(snigate, protocol)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(said[:place])
            if place == len(command):
                assert until(sock, b"\r\n") == go_ahead
            sock.sendall(said[place:])
            answer, _ = rest(sock)
            if place < len(command):
                assert go_ahead not in answer
            sock.close()
        wait_for(
            lambda: (
                sum(
                    snigate.metric("snigate_handshake_failures_total", reason=reason)
                    for reason in ("starttls_injection", "not_tls")
                )
                == len(said) - 1
            ),
            "each is counted",
        )
        assert not server.heard(b"INJECTED")


@PROTOCOLS
def test_a_server_that_speaks_behind_its_go_ahead_is_not_used(tmp_path: Path, protocol: str) -> None:
    answers = {
        "smtp": {b"EHLO": b"250-x\r\n250 STARTTLS\r\n", b"STARTTLS": b"220 go\r\n250 injected\r\n"},
        "imap": {b"S": b"S OK go\r\n* BYE injected\r\n"},
        "pop3": {b"STLS": b"+OK go\r\n+OK injected\r\n"},
        "sieve": {b"STARTTLS": b'OK "go"\r\nOK "injected"\r\n'},
    }[protocol]
    greeting = b'"SIEVE" "a"\r\n"STARTTLS"\r\nOK "hi"\r\n' if protocol == "sieve" else None
    words = {"smtp": b"421 4.4.1 ", "imap": b"* BYE [UNAVAILABLE]", "pop3": b"-ERR [SYS/TEMP]", "sieve": b"BYE (TRYL"}
    with MailServer(protocol, greeting=greeting, answers=answers) as server:
        text = configuration(protocol, server.port, backend='tls = "starttls"\ntls_name = "mail.internal"\n')
        with snigate_for(tmp_path, text) as snigate:
            sock, _ = greeted(snigate, protocol)
            tls = begin_tls(sock, protocol)
            tls.sendall(b"secret words\r\n")
            assert rest(tls)[0].startswith(words[protocol])
            tls.close()
            assert not server.heard(b"secret")
            wait_for(lambda: "it said more than its answer to ST" in snigate.log, "the log says why")


@PROTOCOLS
def test_who_never_begins_tls_is_told_the_time_and_closed(tmp_path: Path, protocol: str) -> None:
    words = {"smtp": b"421 4.4.2 ", "imap": b"* BYE Timed", "pop3": b"-ERR Timed", "sieve": b'BYE "Timed'}[protocol]
    limits = f'[server]\nworkers = 1\nstate_directory = "{tmp_path}/state"\npreamble_timeout = "700ms"\n'
    _, _, command, _ = DIALOGUES[protocol]
    with (
        MailServer(protocol) as server,
        snigate_for(tmp_path, configuration(protocol, server.port, limits=limits)) as snigate,
    ):
        stalled = []
        for place in range(len(command) + 1):
            sock, _ = greeted(snigate, protocol)
            sock.sendall(command[:place])
            stalled.append(sock)
        for sock in stalled[:-1]:
            answer, _ = rest(sock)
            assert answer.startswith(words)
        assert rest(stalled[-1])[0] == DIALOGUES[protocol][3]  # what follows the go-ahead can only be TLS
        for sock in stalled:
            sock.close()
        count = len(stalled)
        wait_for(
            lambda: snigate.metric("snigate_handshake_failures_total", reason="preamble_timeout") == count,
            "each is counted",
        )


@PROTOCOLS
def test_a_client_is_told_in_its_protocol_that_no_server_can_be_reached(tmp_path: Path, protocol: str) -> None:
    words = {"smtp": b"421 4.4.1 ", "imap": b"* BYE [UNAVAILABLE]", "pop3": b"-ERR [SYS/TEMP]", "sieve": b"BYE (TRYL"}
    text = configuration(protocol, free_port())
    implicit, port = text.replace('"starttls"', '"implicit"').replace('"mail"\nbind', '"mails"\nbind'), free_port()
    text += implicit[implicit.index("[[listeners]]") :].replace("{port}", str(port))
    with snigate_for(tmp_path, text) as snigate:
        sock, _ = greeted(snigate, protocol)
        raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        for tls in (begin_tls(sock, protocol), context().wrap_socket(raw, server_hostname=NAME)):
            answer, how = rest(tls)
            assert answer.startswith(words[protocol])
            assert how == "FIN"
            tls.close()


def test_a_mail_server_in_plain_text_is_let_through_where_the_listener_allows_it(tmp_path: Path) -> None:
    listener = "require_tls = false\n"
    with (
        MailServer("smtp") as server,
        snigate_for(tmp_path, configuration("smtp", server.port, listener=listener)) as snigate,
    ):
        sock, _ = greeted(snigate, "smtp")
        sock.sendall(b"EHLO me.example\r\n")
        until(sock, b"250 STARTTLS\r\n")
        sock.sendall(b"MAIL FROM:<a@b.example>\r\nnext\r\n")
        assert until(sock, b"heard next\r\n") == b"heard MAIL FROM:<a@b.example>\r\nheard next\r\n"
        sock.close()
        assert server.heard(b"MAIL") == [b"EHLO me.example\r\nMAIL FROM:<a@b.example>\r\nnext\r\n"]


def test_a_server_that_turns_a_client_away_is_quoted_and_not_counted_as_failed(tmp_path: Path) -> None:
    with (
        MailServer("smtp", greeting=b"554 5.7.1 not you\r\n") as server,
        snigate_for(tmp_path, configuration("smtp", server.port)) as snigate,
    ):
        sock, _ = greeted(snigate, "smtp")
        with begin_tls(sock, "smtp") as tls:
            assert rest(tls)[0] == b"554 5.7.1 not you\r\n"
        wait_for(lambda: snigate.metric("snigate_connections_total", outcome="refused_by_backend") == 1, "counted")
        assert snigate.metric("snigate_backend_connect_failures_total", backend="mail") == 0


def test_tls_at_once_on_a_starttls_port_is_refused_at_once(tmp_path: Path) -> None:
    with MailServer("imap") as server, snigate_for(tmp_path, configuration("imap", server.port)) as snigate:
        raw = socket.create_connection(("127.0.0.1", snigate.port), timeout=TIMEOUT)
        with pytest.raises(OSError, match="wrong version number"):
            context().wrap_socket(raw, server_hostname=NAME)
        wait_for(lambda: snigate.metric("snigate_handshake_failures_total", reason="tls_at_once") == 1, "it is counted")


@PROTOCOLS
def test_openssl_begins_tls_with_the_right_certificate(tmp_path: Path, protocol: str) -> None:
    root = Authority.make("Root")
    (tmp_path / "root.pem").write_bytes(root.pem)
    with (
        MailServer(protocol) as server,
        snigate_for(tmp_path, configuration(protocol, server.port), root.issue(NAME)) as snigate,
    ):
        verifying = ("-verify_hostname", NAME, "-verify_return_error", "-CAfile", tmp_path / "root.pem")
        done = subprocess.run(
            [
                *(needs("openssl"), "s_client", "-brief", "-starttls", protocol),
                *("-connect", f"127.0.0.1:{snigate.port}", "-servername", NAME, *verifying),
            ],
            input=b"Q\n",
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert b"Verification: OK" in done.stderr, done.stderr


def test_who_floods_and_never_begins_tls_keeps_nobody_out(tmp_path: Path) -> None:
    """Twice as many as the worker has room for, from one address, each greeted and silent for minutes."""
    limits = f'[server]\nworkers = 1\nstate_directory = "{tmp_path}/state"\nmax_connections = 40\nmax_handshakes = 16\n'
    with MailServer("smtp") as server, contextlib.ExitStack() as flood:
        text = configuration("smtp", server.port, limits=limits)
        with snigate_for(tmp_path, text) as snigate:
            for _ in range(80):
                silent = socket.create_connection(("127.0.0.1", snigate.port), TIMEOUT, ("127.0.0.9", 0))
                flood.enter_context(silent)
            with socket.create_connection(("127.0.0.1", snigate.port), timeout=TIMEOUT) as client:
                assert until(client, b"\r\n").startswith(b"220 ")
                client.sendall(b"EHLO me\r\n")
                until(client, b"250 STARTTLS\r\n")
            assert "mail dialogues have not come to TLS, as many as may be" in snigate.log
            flood.close()
