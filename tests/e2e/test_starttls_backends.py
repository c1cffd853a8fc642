"""Mail servers behind snigate that speak STARTTLS themselves, or are told the client in their own protocol."""

from __future__ import annotations

import imaplib
import poplib
import re
import socket
import ssl
from pathlib import Path

import pytest

from proxy.server_certificate import pin_of
from tests.e2e.test_starttls import NAME, begin_tls, configuration, greeted, snigate_for, until
from tests.support.mail_server import MailServer
from tests.support.pki import Authority, self_signed
from tests.support.ports import free_port
from tests.support.servers import dovecot
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT, context, see

CLIENT = "127.0.0.77"


def test_an_imap_client_begins_tls_in_front_of_dovecot_and_gets_a_renewed_certificate_the_next_time(
    tmp_path: Path,
) -> None:
    imap, pop3, stls = free_port(), free_port(), free_port()
    root = Authority.make("Root")
    certificate, key = self_signed("unused.example").write(tmp_path, "dovecots-own")
    text = (
        f'[backends.imap]\nservers = ["127.0.0.1:{imap}"]\n[backends.pop3]\nservers = ["127.0.0.1:{pop3}"]\n'
        '[[listeners]]\nname = "imap"\nbind = ["127.0.0.1:{port}"]\nprotocol = "imap"\ntls = "starttls"\n'
        'backend = "imap"\n'
        f'[[listeners]]\nname = "pop3"\nbind = ["127.0.0.1:{stls}"]\nprotocol = "pop3"\ntls = "starttls"\n'
        'backend = "pop3"\n'
    )
    with dovecot(tmp_path / "dovecot", imap, pop3, certificate, key) as log:
        snigate = Snigate(tmp_path, text)
        first, renewed = root.issue("localhost"), root.issue("localhost")
        first.write(snigate.certs)
        with snigate:
            assert shown_to_imap(snigate.port, root) == first.fingerprint
            renewed.write(snigate.certs)
            wait_for(lambda: shown_to_imap(snigate.port, root) == renewed.fingerprint, "the renewed one is served")

            pop = poplib.POP3("127.0.0.1", stls, timeout=20)
            with pytest.raises(poplib.error_proto, match="TLS"):
                pop.user("alice")
            pop.stls(context())
            pop.user("alice")
            pop.pass_("secret")
            pop.quit()
            lines = [line for line in log.read_text().splitlines() if "Login: user=<alice>" in line]
            assert len(lines) >= 3
            assert all("TLS" in line or "secured" in line for line in lines)


def shown_to_imap(port: int, root: Authority) -> str:
    """The certificate that an IMAP client gets, which logs in under it."""
    mail = imaplib.IMAP4("localhost", port, timeout=20)
    assert "LOGINDISABLED" in mail.capabilities
    mail.starttls(context(authority=root.pem.decode()))
    assert "LOGINDISABLED" not in mail.capabilities
    assert isinstance(mail.sock, ssl.SSLSocket)
    found = see(mail.sock).fingerprint
    assert mail.login("alice", "secret")[0] == "OK"
    mail.logout()
    return found


def test_postfix_is_told_the_client_by_xclient(tmp_path: Path) -> None:
    answers = {b"EHLO": b"250-x\r\n250 XCLIENT ADDR PORT\r\n", b"XCLIENT": b"220 again\r\n"}
    backend = 'client_address = "xclient"\n'
    with MailServer("smtp", answers=answers) as server:
        text = configuration("smtp", server.port).replace('client_address = "none"\n', backend)
        with snigate_for(tmp_path, text) as snigate:
            sock = socket.create_connection(("127.0.0.1", snigate.port), TIMEOUT, (CLIENT, 0))
            port = sock.getsockname()[1]
            until(sock, b"\r\n")
            with begin_tls(sock, "smtp") as tls:
                tls.sendall(b"hello there\r\n")
                assert until(tls, b"\r\n") == b"heard hello there\r\n"
            (said,) = server.heard(b"hello")
            assert said == b"EHLO mail.example.com\r\nXCLIENT ADDR=%b PORT=%d\r\nhello there\r\n" % (
                CLIENT.encode(),
                port,
            )


def test_dovecot_is_told_the_client_by_id(tmp_path: Path) -> None:
    with MailServer("imap", answers={b"I": b"I OK\r\n"}) as server:
        text = configuration("imap", server.port).replace('client_address = "none"', 'client_address = "imap-id"')
        with snigate_for(tmp_path, text) as snigate:
            sock = socket.create_connection(("127.0.0.1", snigate.port), TIMEOUT, (CLIENT, 0))
            until(sock, b"\r\n")
            with begin_tls(sock, "imap") as tls:
                tls.sendall(b"hello there\r\n")
                assert until(tls, b"\r\n") == b"heard hello there\r\n"
            (said,) = server.heard(b"hello")
            assert b'"x-originating-ip" "127.0.0.77"' in said
            assert b'"x-client-transport" "TLS"' in said
            assert said.endswith(b")\r\nhello there\r\n")


def test_a_server_without_xclient_is_one_that_cannot_be_used_and_the_log_says_what_to_do(tmp_path: Path) -> None:
    with MailServer("smtp") as server:
        text = configuration("smtp", server.port).replace('client_address = "none"', 'client_address = "xclient"')
        with snigate_for(tmp_path, text) as snigate:
            sock, _ = greeted(snigate, "smtp")
            with begin_tls(sock, "smtp") as tls:
                assert until(tls, b"\r\n").startswith(b"421 4.4.1 mail.example.com ")
            wait_for(lambda: "smtpd_authorized_xclient_hosts" in snigate.log, "the log says what to do")


def test_tls_begins_towards_a_server_by_its_starttls_and_its_certificate_is_verified_or_pinned(tmp_path: Path) -> None:
    imap, pop3 = free_port(), free_port()
    fronts = {name: free_port() for name in ("verified", "pinned", "misnamed", "mispinned")}
    root = Authority.make("Internal root")
    pair = root.issue("mail.internal")
    certificate, key = pair.write(tmp_path, "dovecots-own")
    (tmp_path / "root.pem").write_bytes(root.pem)
    keys = {
        "verified": f'tls_ca = "{tmp_path}/root.pem"\ntls_name = "mail.internal"\n',
        "pinned": f'tls_pin = ["{pin_of(pair.certificate)}"]\n',
        "misnamed": f'tls_ca = "{tmp_path}/root.pem"\ntls_name = "other.internal"\n',
        "mispinned": f'tls_pin = ["{pin_of(root.issue("mail.internal").certificate)}"]\n',
    }
    backends = (f'[backends.{name}]\nservers = ["127.0.0.1:{imap}"]\ntls = "starttls"\n{keys[name]}' for name in fronts)
    listeners = (
        f'[[listeners]]\nname = "{name}"\nbind = ["127.0.0.1:{port}"]\nprotocol = "imap"\nbackend = "{name}"\n'
        for name, port in fronts.items()
    )
    text = "".join((*backends, *listeners))
    snigate = Snigate(tmp_path, text)
    snigate.port = fronts["verified"]
    with dovecot(tmp_path / "dovecot", imap, pop3, certificate, key) as log, snigate:
        for name, user in (("verified", "alice"), ("pinned", "bob")):
            mail = imaplib.IMAP4_SSL("127.0.0.1", fronts[name], ssl_context=context(), timeout=20)
            assert mail.login(user, "secret")[0] == "OK"
            mail.logout()
            assert f"Login: user=<{user}>" in log.read_text()
        for name, why in (("misnamed", "other.internal"), ("mispinned", "tls_pin")):
            raw = socket.create_connection(("127.0.0.1", fronts[name]), timeout=TIMEOUT)
            with context().wrap_socket(raw, server_hostname=NAME) as tls:
                assert until(tls, b"\r\n").startswith(b"* BYE ")
            wait_for(lambda why=why: why in snigate.log, "the log says why the certificate is refused")


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3", "sieve"])
def test_a_server_that_expects_no_proxy_header_is_found_out_at_the_start(tmp_path: Path, protocol: str) -> None:
    errors = {
        "smtp": b"502 what?\r\n",
        "imap": b"* BAD what?\r\n",
        "pop3": b"-ERR what?\r\n",
        "sieve": b'NO "what?"\r\n',
    }
    with MailServer(protocol, answers={b"PROXY": errors[protocol]}) as server:
        text = configuration(protocol, server.port).replace('client_address = "none"', 'client_address = "proxy-v1"')
        with snigate_for(tmp_path, text) as snigate:
            wait_for(
                lambda: "it was sent a PROXY header, does it expect one from here?" in snigate.log,
                "the log says what may be wrong",
            )
            either = r"does not say what it can do: (it |its answer to CAPABILITY is )"  # which of both comes first
            assert re.search(either, snigate.log)
            assert "cannot be reached" not in snigate.log


def test_a_password_without_tls_is_in_the_log_as_what_it_was(tmp_path: Path) -> None:
    with MailServer("pop3") as server, snigate_for(tmp_path, configuration("pop3", server.port)) as snigate:
        sock, _ = greeted(snigate, "pop3")
        sock.sendall(b"USER alice\r\n")
        assert until(sock, b"\r\n").startswith(b"-ERR [SYS/PERM]")
        sock.close()
        wait_for(lambda: "end=before_tls reason=login_before_tls" in snigate.log, "the access log says why")
