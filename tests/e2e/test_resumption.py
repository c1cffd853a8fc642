"""Sessions resume across workers, and never from one policy into another."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.support.echo import EchoServer
from tests.support.pki import self_signed
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context

CONNECTIONS = 200
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
ALPN = ("h2", "http/1.1")  # offered to every route, so that each finds one it takes
CONFIGURATION = """
[[listeners]]
name = "web"
bind = ["127.0.0.1:{port}"]
backend = "127.0.0.1:%d"
alpn = ["h2"]

  [[listeners.routes]]
  hosts = ["same.example.com"]

  [[listeners.routes]]
  hosts = ["alpn.example.com"]
  alpn = ["http/1.1"]

  [[listeners.routes]]
  hosts = ["profile.example.com"]
  profile = "old"
"""


@pytest.fixture(scope="module")
def snigate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snigate]:
    """Two workers, and a listener whose routes differ in ALPN or profile from what is the listener's own."""
    with EchoServer() as backend:
        made = Snigate(tmp_path_factory.mktemp("resumption"), CONFIGURATION % backend.port)
        self_signed("*.example.com").write(made.certs)
        with made:
            yield made


def visit(
    snigate: Snigate, name: str, using: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession]:
    """Connect offering a session: whether it was resumed, and the session to offer next."""
    with connect(snigate.port, name, using=using, session=session) as tls:
        tls.sendall(b"x")
        assert tls.recv(1) == b"x"  # TLS 1.3 sends its tickets after the handshake, before what the backend says
        assert tls.session is not None
        return bool(tls.session_reused), tls.session


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_resume_at_least_99_times_in_100_whichever_worker_they_meet(
    snigate: Snigate, version: ssl.TLSVersion
) -> None:
    using = context(version=version, alpn=ALPN)
    before = snigate.metric("snigate_handshakes_total", resumed="yes")
    _, session = visit(snigate, "www.example.com", using, None)
    resumed = 0
    for _ in range(CONNECTIONS):
        again, session = visit(snigate, "www.example.com", using, session)
        resumed += again
    assert resumed >= 0.99 * CONNECTIONS
    wait_for(
        lambda: snigate.metric("snigate_handshakes_total", resumed="yes") == before + resumed,
        "they are counted as such",
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", ["www.example.com", "alpn.example.com", "profile.example.com"])
def test_a_session_is_never_resumed_under_another_policy(snigate: Snigate, version: ssl.TLSVersion, first: str) -> None:
    for other in {"www.example.com", "alpn.example.com", "profile.example.com"} - {first}:
        using = context(version=version, alpn=ALPN)
        _, session = visit(snigate, first, using, None)
        for _ in range(8):  # both workers
            assert not visit(snigate, other, using, session)[0]
        assert visit(snigate, first, using, session)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed_on_another_host_under_the_same_policy(snigate: Snigate, version: ssl.TLSVersion) -> None:
    """So the test before this one fails for the policy, and not because a client keeps a session to its host."""
    using = context(version=version, alpn=ALPN)
    _, session = visit(snigate, "www.example.com", using, None)
    assert visit(snigate, "same.example.com", using, session)[0]
