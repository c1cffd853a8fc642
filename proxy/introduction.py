"""What sessions behind trusted proxies have in common: who is told when a proxy introduces nobody, and where we are."""

from __future__ import annotations

import logging
from socket import SocketType

from proxy.account import Account
from proxy.backend import Endpoint
from proxy.proxy_header import ProxyHeaderError
from proxy.throttle import Throttle

log = logging.getLogger("snigate.session")


def local_address(sock: SocketType) -> Endpoint:
    """This end of a TCP connection, an IPv4 address on a socket for both families as such."""
    host, port = sock.getsockname()[:2]
    return host.removeprefix("::ffff:"), port


def complain(complaints: Throttle, now: float, account: Account, error: ProxyHeaderError) -> None:
    """Tell the operator of a proxy that introduces nobody; not each time, for there may be thousands."""
    if complaints.allows(now):
        log.warning(
            "listener %s: %s, which accept_proxy_from names: %s. Make it send the header, or take it out of the list "
            "(%d more since the last such message)",
            account.listener,
            account.client[0],
            error,
            complaints.held_back(),
        )
