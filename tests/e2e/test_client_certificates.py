"""Client certificates over real sockets: demanded by name, revoked meanwhile, told to the backend and the log."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.support.backend import PlayedBackend, read
from tests.support.pki import Authority, Pair, put, self_signed
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context, see
from tests.support.tls_socket import opened

ROUTES = """
[backends.told]
servers = ["127.0.0.1:%d"]

[[listeners]]
name = "web"
bind = ["127.0.0.1:{port}"]
backend = "welcome"

  [[listeners.routes]]
  hosts = ["members.example.com"]
  client_auth = "required"
  client_ca = "%s/ca.pem"
  client_crl = "%s/crl.pem"
  backend = "told"
"""
TWO_CIRCLES = """
[[listeners]]
name = "web"
bind = ["127.0.0.1:{port}"]
backend = "welcome"

  [[listeners.routes]]
  hosts = ["members.example.com"]
  client_auth = "required"
  client_ca = "DIRECTORY/ca.pem"

  [[listeners.routes]]
  hosts = ["others.example.com"]
  client_auth = "required"
  client_ca = "DIRECTORY/others.pem"
"""
SPELLINGS = ("members.example.com", "MEMBERS.example.COM", "members.example.com.")
REFUSED = (ssl.SSLError, ConnectionError, BrokenPipeError)


def showing(pair: Pair | None, directory: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    made = context(version=version)
    if pair is not None:
        certificate, key = pair.write(directory, "client")
        made.load_cert_chain(certificate, key)
    return made


def is_refused(snigate: Snigate, using: ssl.SSLContext, name: str) -> bool:
    """Whether the handshake fails; in TLS 1.3 the client hears of it when it reads."""
    try:
        with connect(snigate.port, name, using=using) as tls:
            tls.settimeout(0.5)
            return tls.recv(1) == b""
    except TimeoutError:
        return False
    except REFUSED:
        return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_route_for_members_is_for_them_alone_until_one_is_revoked(tmp_path: Path, version: ssl.TLSVersion) -> None:
    clients = Authority.make("Clients")
    alice = clients.issue(common_name="Alice", eku=("client",))
    bob = clients.issue(common_name="Bob", eku=("client",))
    put(tmp_path / "ca.pem", clients.pem)
    put(tmp_path / "crl.pem", clients.revoke())
    with PlayedBackend() as backend:
        snigate = Snigate(tmp_path, ROUTES % (backend.port, tmp_path, tmp_path), name="open.example.com")
        self_signed("*.example.com").write(snigate.certs)
        with snigate:
            as_alice, as_bob = showing(alice, tmp_path / "a", version), showing(bob, tmp_path / "b", version)
            for spelling in SPELLINGS:
                assert is_refused(snigate, showing(None, tmp_path, version), spelling)
            with connect(snigate.port, "open.example.com", using=showing(None, tmp_path, version)) as tls:
                assert not see(tls).resumed
            for using, name in ((as_alice, b"Alice"), (as_bob, b"Bob")):
                with connect(snigate.port, "members.example.com", using=using) as tls, backend.accept() as server:
                    header = read(server, 16)
                    assert b"\x22" + len(name).to_bytes(2) + name in read(server, int.from_bytes(header[14:]))
            with connect(snigate.port, "members.example.com", using=as_alice) as before, backend.accept() as server:
                header = read(server, 16)
                read(server, int.from_bytes(header[14:]))
                put(tmp_path / "crl.pem", clients.revoke(bob))
                wait_for(lambda: snigate.api("/api/v1/status")["generation"] == 2, "new workers have the new list")
                wait_for(lambda: is_refused(snigate, as_bob, "members.example.com"), "Bob is refused")
                before.sendall(b"still here")
                assert read(server, 10) == b"still here"
            put(tmp_path / "crl.pem", b"broken")
            wait_for(lambda: "crl.pem: holds no X509 CRL block" in snigate.log, "a bad list is named")
            assert is_refused(snigate, as_bob, "members.example.com")
            failures = "snigate_handshake_failures_total"
            assert snigate.metric(failures, reason="client_certificate_missing") >= 2
            wait_for(lambda: snigate.metric(failures, reason="client_certificate_refused") >= 1, "it is counted")
            wait_for(lambda: " client=Alice " in snigate.log, "the access log names her")


def test_a_session_made_elsewhere_does_not_get_past_the_demand(tmp_path: Path) -> None:
    clients = Authority.make("Clients")
    put(tmp_path / "ca.pem", clients.pem)
    put(tmp_path / "crl.pem", clients.revoke())
    with PlayedBackend() as backend:
        snigate = Snigate(tmp_path, ROUTES % (backend.port, tmp_path, tmp_path), name="open.example.com")
        self_signed("*.example.com").write(snigate.certs)
        with snigate:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                using = context(version=version)
                with connect(snigate.port, "open.example.com", using=using) as tls:
                    tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    while tls.recv(4096):
                        pass
                    session = tls.session
                for spelling in SPELLINGS:
                    for _ in range(4):
                        with pytest.raises(REFUSED):
                            visit(snigate, using, session, spelling)
            with opened(snigate.port, "open.example.com") as still:
                still.send_close_notify()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_members_session_is_of_no_use_where_other_members_are_asked_for(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    clients, others = Authority.make("Clients"), Authority.make("Others")
    for name, authority in (("ca", clients), ("others", others)):
        put(tmp_path / f"{name}.pem", authority.pem)
    text = TWO_CIRCLES.replace("DIRECTORY", str(tmp_path))
    snigate = Snigate(tmp_path, text, name="open.example.com")
    self_signed("*.example.com").write(snigate.certs)
    with snigate:
        using = showing(clients.issue(common_name="Alice", eku=("client",)), tmp_path / "a", version)
        session = welcomed(snigate, using, "members.example.com", None)
        assert welcomed(snigate, using, "members.example.com", session) is not None
        for spelling in ("others.example.com", "Others.Example.com", "others.example.com."):
            for _ in range(4):
                with pytest.raises(REFUSED):
                    visit(snigate, using, session, spelling)


def welcomed(
    snigate: Snigate, using: ssl.SSLContext, name: str, session: ssl.SSLSession | None
) -> ssl.SSLSession | None:
    """Be answered there; the session to come back with."""
    with connect(snigate.port, name, using=using, session=session) as tls:
        tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert tls.recv(12) == b"HTTP/1.1 200"
        assert bool(tls.session_reused) == (session is not None)
        return tls.session


def visit(
    snigate: Snigate, using: ssl.SSLContext, session: ssl.SSLSession | None, name: str = "members.example.com"
) -> None:
    """Go where a certificate is demanded, with a session from elsewhere. Raises what the refusal is."""
    with connect(snigate.port, name, using=using, session=session) as tls:
        if not tls.recv(1):
            raise ConnectionError
