"""The shortest way through the whole: a client, snigate, a backend."""

from __future__ import annotations

from pathlib import Path

from tests.support.echo import EchoServer
from tests.support.pki import self_signed
from tests.support.snigate import Snigate
from tests.support.tls_client import connect, shown

WELCOME = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'


def test_a_client_reaches_the_backend_through_the_certificate_of_the_name_it_asks_for(tmp_path: Path) -> None:
    pair = self_signed("mail.example.com")
    with EchoServer() as backend:
        listener = WELCOME.replace('"welcome"', f'"127.0.0.1:{backend.port}"')
        snigate = Snigate(tmp_path, listener)
        pair.write(snigate.certs, "mail")
        with snigate:
            assert shown(snigate.port, "mail.example.com").fingerprint == pair.fingerprint
            assert shown(snigate.port, "MAIL.example.com").fingerprint == pair.fingerprint
            assert shown(snigate.port, "other.example.com").fingerprint != pair.fingerprint
            with connect(snigate.port, "mail.example.com") as tls:
                tls.sendall(b"hello" * 1000)
                answer = b""
                while len(answer) < 5000:
                    answer += tls.recv(65536)
                assert answer == b"hello" * 1000
    assert "Traceback" not in snigate.log
