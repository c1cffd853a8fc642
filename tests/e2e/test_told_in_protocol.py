"""The recipes of docs/mail.md without the PROXY protocol: Postfix told of clients by XCLIENT, Dovecot by ID."""

from __future__ import annotations

import imaplib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.test_starttls import until
from tests.support.ports import free_port
from tests.support.recipes import dovecot_with_id, postfix
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT, context

CLIENT = "127.0.0.77"  # an address of this machine that is neither snigate's nor the servers'
LIE = "203.0.113.9"


def configuration(protocol: str, port: int, client_address: str) -> str:
    return (
        f'[backends.{protocol}]\nservers = ["127.0.0.1:{port}"]\nclient_address = "{client_address}"\n'
        f'[[listeners]]\nname = "{protocol}"\nbind = ["127.0.0.1:{{port}}"]\nprotocol = "{protocol}"\n'
        f'tls = "starttls"\nbackend = "{protocol}"\n'
    )


@contextmanager
def speaking(snigate: Snigate, address: str) -> Iterator[Callable[[str], bytes]]:
    """An SMTP client from `address`, after STARTTLS: says something, and hears the answer."""
    raw = socket.create_connection(("127.0.0.1", snigate.port), TIMEOUT, (address, 0))
    until(raw, b"\r\n")
    raw.sendall(b"STARTTLS\r\n")
    until(raw, b"\r\n")
    with context().wrap_socket(raw, server_hostname="mail.example.com") as tls:

        def says(words: str) -> bytes:
            tls.sendall(words.encode() + b"\r\n")
            return until(tls, b"\r\n")

        assert says("HELO client.example").startswith(b"250 ")
        yield says


def test_postfix_is_told_by_xclient_and_clients_can_neither_lie_nor_relay(tmp_path: Path) -> None:
    port = free_port()
    with (
        postfix(tmp_path / "postfix", {10025: port}, ", with XCLIENT") as log,
        Snigate(tmp_path / "snigate", configuration("smtp", port, "xclient"), workers=1) as snigate,
    ):
        with speaking(snigate, CLIENT) as says:
            assert says(f"XCLIENT ADDR={LIE}").startswith(b"550 5.7.0 ")
            assert says("MAIL FROM:<eve@elsewhere.example>").startswith(b"250 ")
            assert says("RCPT TO:<alice@example.com>").startswith(b"250 ")
            assert b"Relay access denied" in says("RCPT TO:<bob@elsewhere.example>")
        with speaking(snigate, "127.0.0.1") as says:  # in mynetworks, where that is not empty
            assert says("MAIL FROM:<alice@example.com>").startswith(b"250 ")
            assert b"Relay access denied" in says("RCPT TO:<bob@elsewhere.example>")
        wait_for(lambda: f"RCPT from unknown[{CLIENT}]" in log.read_text(), "Postfix's log has the client's address")
        assert LIE not in log.read_text()


def test_dovecot_is_told_by_id_and_clients_cannot_lie(tmp_path: Path) -> None:
    port = free_port()
    with (
        dovecot_with_id(tmp_path / "dovecot", port) as log,
        Snigate(tmp_path / "snigate", configuration("imap", port, "imap-id"), workers=1) as snigate,
    ):
        for name, lie in (("alice", ""), ("bob", LIE)):
            mail = FromElsewhere("127.0.0.1", snigate.port, timeout=TIMEOUT)
            mail.starttls(context())
            if lie:
                mail.xatom("ID", f'("x-originating-ip" "{lie}")')
            assert mail.login(name, "secret")[0] == "OK"
            mail.logout()
        logins = [line for line in log.read_text().splitlines() if "Login: user=" in line]
        assert len(logins) == 2
        assert all(f"rip={CLIENT}," in line for line in logins)


class FromElsewhere(imaplib.IMAP4):
    """An IMAP client that connects from CLIENT."""

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout, (CLIENT, 0))
