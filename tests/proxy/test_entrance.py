from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest

from proxy.backend import Endpoint
from proxy.entrance import behind_proxies, direct
from proxy.errors import Outcome
from proxy.limits import Limits
from proxy.proxy_header import ProxyHeaderReader
from tests.support.loop import tcp_pair
from tests.support.service import listener_metrics, value


class Begun:
    """Collects what begins: for each connection its peer, and whether a header is to come first."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def __call__(self, sock: socket.SocketType, client: Endpoint, introduction: ProxyHeaderReader | None) -> None:
        self.seen.append((client[0], introduction is not None))
        sock.close()


@pytest.fixture
def sock() -> socket.socket:
    one, other = tcp_pair()
    other.close()
    return one


def test_every_peer_is_a_client_that_counts_for_itself(sock: socket.socket) -> None:
    limits, metrics, begun = Limits(10, 1), listener_metrics(), Begun()
    enter = direct(limits, metrics, begun)
    enter(sock, ("192.0.2.1", 1))
    assert begun.seen == [("192.0.2.1", False)]
    near, far = tcp_pair()
    enter(near, ("192.0.2.1", 2))
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    far.close()
    assert begun.seen == [("192.0.2.1", False)]
    assert value(metrics.outcomes[Outcome.REFUSED]) == 1
    assert limits.open == 1


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.0.0.0", True),
        ("10.0.0.255", True),
        ("10.0.1.0", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::9", True),
        ("2001:db9::9", False),
        ("fe80::1%eth0", True),
        ("::a00:0", False),
    ],
)
def test_a_peer_inside_a_network_is_a_proxy_and_counts_for_nobody_yet(
    sock: socket.socket, peer: str, trusted: bool
) -> None:
    networks = [ip_network(one) for one in ("10.0.0.0/24", "192.0.2.7/32", "2001:db8::/32", "fe80::/10")]
    limits, begun = Limits(10, 1), Begun()
    behind_proxies(networks, limits, listener_metrics(), begun)(sock, (peer, 1))
    assert begun.seen == [(peer, trusted)]
    assert limits.open == 1
    assert limits.admit(peer) is trusted
