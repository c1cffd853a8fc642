"""What becomes of a connection that was accepted: whom it counts for, and whether a PROXY header is to come first.

A listener is given one of these functions when it is made, so that what it does not need costs its connections nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from socket import SocketType

from proxy.backend import Endpoint
from proxy.leg import reset
from proxy.limits import Limits
from proxy.metrics import ListenerMetrics
from proxy.proxy_header import ProxyHeaderReader

Enter = Callable[[SocketType, Endpoint], None]
# With a reader, the connection begins with a PROXY header, and is not counted for any client yet.
Begin = Callable[[SocketType, Endpoint, ProxyHeaderReader | None], object]


def direct(limits: Limits, metrics: ListenerMetrics, begin: Begin) -> Enter:
    """Every peer is a client: it counts for itself, and at its limit it is reset."""

    def enter(sock: SocketType, client: Endpoint) -> None:
        if limits.admit(client[0]):
            begin(sock, client, None)
        else:
            metrics.refused()
            reset(sock)

    return enter


def behind_proxies(
    networks: Sequence[IPv4Network | IPv6Network], limits: Limits, metrics: ListenerMetrics, begin: Begin
) -> Enter:
    """Peers inside these networks are proxies, whose header tells the client; others are clients as they come."""
    enter_directly = direct(limits, metrics, begin)

    def enter(sock: SocketType, peer: Endpoint) -> None:
        address = ip_address(peer[0])
        if any(address in network for network in networks):
            limits.admit_unnamed()
            begin(sock, peer, ProxyHeaderReader())
        else:
            enter_directly(sock, peer)

    return enter
