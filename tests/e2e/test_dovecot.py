"""snigate in front of a real Dovecot: implicit TLS, and the client's real address in Dovecot's own log."""

from __future__ import annotations

import imaplib
import poplib
import socket
import ssl
from pathlib import Path

import pytest

from tests.support.pki import Authority, self_signed
from tests.support.ports import free_port
from tests.support.servers import dovecot
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import context, see

CLIENT = "127.0.0.77"  # an address of this machine that is neither snigate's nor Dovecot's


def configuration(imap: int, pop3: int, pop3s: int) -> str:
    return (
        f'[backends.imap]\nservers = ["127.0.0.1:{imap}"]\nclient_address = "proxy-v2"\n'
        f'[backends.pop3]\nservers = ["127.0.0.1:{pop3}"]\nclient_address = "proxy-v2"\n'
        '[[listeners]]\nname = "imaps"\nbind = ["127.0.0.1:{port}"]\nprotocol = "imap"\nbackend = "imap"\n'
        f'[[listeners]]\nname = "pop3s"\nbind = ["127.0.0.1:{pop3s}"]\nprotocol = "pop3"\nbackend = "pop3"\n'
    )


class FromElsewhere(imaplib.IMAP4_SSL):
    """An IMAP client that connects from CLIENT and asks for a server name."""

    def open(self, host: str = "", port: int | None = 993, timeout: float | None = None) -> None:
        raw = socket.create_connection((host, port or 993), timeout=20, source_address=(CLIENT, 0))
        self.host, self.port = host, port or 993
        self.sock = self.ssl_context.wrap_socket(raw, server_hostname="imap.example.com")
        self.file = self.sock.makefile("rb")


def test_imap_and_pop3_clients_log_in_and_dovecot_sees_their_address_and_tls(tmp_path: Path) -> None:
    imap, pop3, pop3s = free_port(), free_port(), free_port()
    authority = Authority.make("Test root")
    one, other = authority.issue("imap.example.com"), authority.issue("pop.example.com")
    certificate, key = self_signed("unused.example").write(tmp_path, "dovecots-own")
    trusting = context(authority=authority.pem.decode())
    with dovecot(tmp_path / "dovecot", imap, pop3, certificate, key) as log:
        snigate = Snigate(tmp_path, configuration(imap, pop3, pop3s))
        one.write(snigate.certs, "imap")
        other.write(snigate.certs, "pop")
        with snigate:
            mail = FromElsewhere("127.0.0.1", snigate.port, ssl_context=trusting)
            assert isinstance(mail.sock, ssl.SSLSocket)
            assert see(mail.sock).fingerprint == one.fingerprint
            assert mail.login("alice", "secret")[0] == "OK"
            assert mail.append("INBOX", "", "", b"Subject: hello\r\n\r\nbody\r\n")[0] == "OK"
            assert mail.select("INBOX") == ("OK", [b"1"])
            assert mail.logout()[0] == "BYE"

            pop = poplib.POP3_SSL("127.0.0.1", pop3s, timeout=20, context=context())
            pop.user("alice")
            pop.pass_("secret")
            assert pop.stat()[0] == 1
            assert b"body" in pop.retr(1)[1]
            pop.quit()

            wait_for(lambda: log.read_text().count("Login: user=<alice>") == 2, "both logins are in Dovecot's log")
            lines = [line for line in log.read_text().splitlines() if "Login: user=<alice>" in line]
            assert f"rip={CLIENT}" in lines[0]
            assert "rip=127.0.0.1" in lines[1]
            assert all("TLS" in line or "secured" in line for line in lines)


def test_an_imap_client_that_offers_only_another_protocol_is_refused(tmp_path: Path) -> None:
    imap, pop3, pop3s = free_port(), free_port(), free_port()
    certificate, key = self_signed("unused.example").write(tmp_path, "dovecots-own")
    with (
        dovecot(tmp_path / "dovecot", imap, pop3, certificate, key),
        Snigate(tmp_path, configuration(imap, pop3, pop3s)) as snigate,
    ):
        mail = imaplib.IMAP4_SSL("127.0.0.1", snigate.port, ssl_context=context(alpn=("imap",)), timeout=20)
        assert isinstance(mail.sock, ssl.SSLSocket)
        assert mail.sock.selected_alpn_protocol() == "imap"
        mail.logout()
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            imaplib.IMAP4_SSL("127.0.0.1", snigate.port, ssl_context=context(alpn=("h2",)), timeout=20)
        wait_for(
            lambda: snigate.metric("snigate_handshake_failures_total", reason="no_application_protocol") == 1,
            "the refusal is counted",
        )
