"""The recipes of docs/mail.md: its very files, with real Dovecot and Postfix behind snigate."""

from __future__ import annotations

import base64
import imaplib
import poplib
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from managesieve import MANAGESIEVE

from tests.e2e.test_starttls import until
from tests.support.pki import Authority, Pair, self_signed
from tests.support.ports import free_port
from tests.support.recipes import FILES, dovecot, placed, postfix
from tests.support.servers import needs
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT, context, see

CLIENT = "127.0.0.77"  # an address of this machine that is neither snigate's nor the servers'
PUBLIC = (143, 25, 465, 587, 993, 110, 995, 4190)
POSTFIX = (10025, 10465, 10587, 10026)
SUBMISSION = (10588, 10026)  # Dovecot's, and where it relays to
DOVECOT = (10143, 10110, 14190)


@dataclass
class Site:
    """All of it, running: `ports` by the documented public ones."""

    snigate: Snigate
    ports: dict[int, int]
    root: Authority
    mail: Pair
    dovecot: Path  # logs
    postfix: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("mail")
    inner = {port: free_port() for port in (*POSTFIX, *DOVECOT, *SUBMISSION)}
    public = {port: free_port() for port in (*PUBLIC, 588)}  # the last: Dovecot's submission, in place of 587
    root = Authority.make("Test root")
    spool = directory / "postfix" / "spool"
    places = {f'":{port}"': f'"127.0.0.1:{public[port]}"' for port in PUBLIC}
    places |= {f"127.0.0.1:{port}": f"127.0.0.1:{inner[port]}" for port in (*POSTFIX[:3], *DOVECOT)}
    places |= {"/etc/snigate/certs": str(directory / "snigate" / "certificates")}
    places |= {'[server]\nstate_directory = "/var/lib/snigate"\n\n': ""}  # which the test's snigate has already
    text = placed("/etc/snigate/snigate.toml", places).replace("[certificates]\n", "[certificates]\ntrust = []\n")
    with (
        postfix(directory / "postfix", only(inner, POSTFIX), "", ", for submission") as postfix_log,
        dovecot(directory / "dovecot", spool, only(inner, DOVECOT), only(inner, SUBMISSION)) as dovecot_log,
    ):
        text += (
            f'[backends.by-dovecot]\nservers = ["127.0.0.1:{inner[10588]}"]\nclient_address = "proxy-v2"\n'
            f'[[listeners]]\nname = "by-dovecot"\nbind = ["127.0.0.1:{public[588]}"]\nprotocol = "smtp"\n'
            'tls = "starttls"\nbackend = "by-dovecot"\n'
        )
        snigate = Snigate(directory / "snigate", text, workers=1)
        snigate.port = public[25]
        mail = root.issue("mail.example.com")
        mail.write(snigate.certs, "mail")
        with snigate:
            yield Site(snigate, public, root, mail, dovecot_log, postfix_log)


def only(ports: dict[int, int], wanted: tuple[int, ...]) -> dict[int, int]:
    return {port: ports[port] for port in wanted}


def swaks(site: Site, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One mail from CLIENT."""
    return subprocess.run(
        [
            *(needs("swaks"), "--server", "127.0.0.1", "--port", str(site.ports[port]), "--timeout", "15"),
            *("--local-interface", CLIENT, "--ehlo", "client.example", "--tls-sni", "mail.example.com"),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


LOGIN = ("--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "secret")
OUTWARDS = ("--from", "alice@example.com", "--to", "bob@elsewhere.example")
INWARDS = ("--from", "bob@elsewhere.example", "--to", "alice@example.com")


@pytest.mark.parametrize("tls", [("--tls",), ()], ids=["tls", "plain text"])
def test_another_mail_server_delivers_to_port_25_with_tls_or_without(site: Site, tls: tuple[str, ...]) -> None:
    sent = swaks(site, 25, *tls, *INWARDS)
    assert sent.returncode == 0, sent.stdout
    assert "250 2.0.0 Ok: queued" in sent.stdout
    wait_for(lambda: f"client=unknown[{CLIENT}]" in site.postfix.read_text(), "Postfix's log has the client's address")


def test_postscreen_takes_the_header_and_hands_mail_on(tmp_path: Path) -> None:
    port = free_port()
    with postfix(tmp_path / "postfix", {10025: port}, ", with postscreen") as log:
        text = (
            f'[backends.mx]\nservers = ["127.0.0.1:{port}"]\nclient_address = "proxy-v2"\n'
            '[[listeners]]\nname = "mx"\nbind = ["127.0.0.1:{port}"]\nprotocol = "smtp"\ntls = "starttls"\n'
            'backend = "mx"\n'
        )
        with Snigate(tmp_path / "snigate", text, workers=1) as snigate:
            site = Site(snigate, {25: snigate.port}, Authority.make("x"), self_signed("x.example"), log, log)
            sent = swaks(site, 25, "--tls", *INWARDS)
            assert "queued" in sent.stdout, sent.stdout
            assert swaks(site, 25, "--tls", *OUTWARDS).returncode != 0
        assert f"CONNECT from [{CLIENT}]" in log.read_text()
        assert f"client=unknown[{CLIENT}]" in log.read_text()


def test_a_user_sends_by_dovecots_submission(site: Site) -> None:
    sent = swaks(site, 588, "--tls", *LOGIN, *OUTWARDS)
    assert sent.returncode == 0, sent.stdout
    (line,) = from_client(site, "submission-login")
    assert "TLS" in line or "secured" in line


@pytest.mark.parametrize(("port", "tls"), [(587, "--tls"), (465, "--tls-on-connect")])
def test_a_user_logs_in_and_sends_to_anybody(site: Site, port: int, tls: str) -> None:
    sent = swaks(site, port, tls, *LOGIN, *OUTWARDS)
    assert sent.returncode == 0, sent.stdout
    wait_for(
        lambda: re.search(
            rf"client=unknown\[{CLIENT}\], sasl_method=PLAIN, sasl_username=alice", site.postfix.read_text()
        ),
        "Postfix's log has the client's address and login",
    )


@pytest.mark.parametrize(
    ("port", "arguments"),
    [
        (25, ("--tls", *OUTWARDS)),
        (25, OUTWARDS),
        (25, ("--from", "eve@elsewhere.example", "--to", "bob@elsewhere.example")),
        (25, ("--tls", *LOGIN, *OUTWARDS)),
        (587, ("--tls", *OUTWARDS)),
        (587, OUTWARDS),
        (587, (*LOGIN, *OUTWARDS)),
        (587, ("--tls", *LOGIN[:-1], "wrong", *OUTWARDS)),
        (465, ("--tls-on-connect", *OUTWARDS)),
        (588, ("--tls", *OUTWARDS)),
        (588, OUTWARDS),
    ],
)
def test_an_outsider_cannot_relay(site: Site, port: int, arguments: tuple[str, ...]) -> None:
    sent = swaks(site, port, *arguments)
    assert sent.returncode != 0, sent.stdout
    assert "queued" not in sent.stdout


@pytest.mark.parametrize("port", [143, 993])
def test_an_imap_user_logs_in(site: Site, port: int) -> None:
    trusting = context(authority=site.root.pem.decode())
    trusting.check_hostname = False
    if port == 143:
        mail = imaplib.IMAP4("127.0.0.1", site.ports[143], timeout=20)
        with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
            mail.login("alice", "secret")
        mail.starttls(trusting)
    else:
        mail = imaplib.IMAP4_SSL("127.0.0.1", site.ports[993], ssl_context=trusting, timeout=20)
    assert isinstance(mail.sock, ssl.SSLSocket)
    assert see(mail.sock).fingerprint == site.mail.fingerprint
    assert mail.login("alice", "secret")[0] == "OK"
    assert mail.select("INBOX")[0] == "OK"
    mail.logout()


@pytest.mark.parametrize("port", [110, 995])
def test_a_pop3_user_logs_in(site: Site, port: int) -> None:
    if port == 110:
        mail = poplib.POP3("127.0.0.1", site.ports[110], timeout=20)
        mail.stls(context())
    else:
        mail = poplib.POP3_SSL("127.0.0.1", site.ports[995], context=context(), timeout=20)
    mail.user("alice")
    mail.pass_("secret")
    assert mail.stat()[0] == 0
    mail.quit()


def test_a_managesieve_user_logs_in_and_dovecot_sees_the_address_and_the_tls(site: Site) -> None:
    raw = socket.create_connection(("127.0.0.1", site.ports[4190]), TIMEOUT, (CLIENT, 0))
    greeting = until(raw, b'ready"\r\n')
    assert b'"STARTTLS"' in greeting
    assert b"PLAIN" not in greeting
    raw.sendall(b"STARTTLS\r\n")
    assert until(raw, b"\r\n").startswith(b"OK")
    with context().wrap_socket(raw, server_hostname="mail.example.com") as tls:
        capabilities = until(tls, b'ready."\r\n')
        assert b'"SASL" "PLAIN' in capabilities
        assert b'"SIEVE"' in capabilities
        login = base64.b64encode(b"\0alice\0secret")
        tls.sendall(b'AUTHENTICATE "PLAIN" "%b"\r\nLISTSCRIPTS\r\nLOGOUT\r\n' % login)
        assert until(tls, b"\r\n").startswith(b"OK")
        assert until(tls, b"\r\n").startswith(b"OK")
        assert until(tls, b"\r\n").startswith(b"OK")
    wait_for(lambda: from_client(site, "managesieve-login"), "the login is in Dovecot's log")
    (line,) = from_client(site, "managesieve-login")
    assert "TLS" in line or "secured" in line


def test_a_managesieve_client_logs_in_and_asks_for_its_scripts(site: Site) -> None:
    client = MANAGESIEVE("127.0.0.1", site.ports[4190], use_tls=True, tls_verify=False)
    assert client.authenticate("PLAIN", "alice", "secret") == "OK"
    assert client.listscripts() == ("OK", [])
    assert client.havespace("mine", 100) == "OK"
    with client.sock.sslobj:  # which the library leaves open
        client.logout()


def from_client(site: Site, service: str) -> list[str]:
    """The logins in Dovecot's log that came from CLIENT."""
    lines = site.dovecot.read_text().splitlines()
    return [line for line in lines if f"{service}: " in line and "Login: user" in line and f"rip={CLIENT}," in line]


def test_every_documented_file_is_used_here() -> None:
    assert set(FILES) == {
        "/etc/snigate/snigate.toml",
        "/etc/dovecot/local.conf",
        "/etc/dovecot/local.conf, for submission",
        "/etc/dovecot/local.conf, with ID",
        "/etc/postfix/master.cf",
        "/etc/postfix/master.cf, with postscreen",
        "/etc/postfix/master.cf, with XCLIENT",
        "/etc/postfix/master.cf, for submission",
        "/etc/postfix/main.cf",
    }
