"""One server of a backend: the addresses it has now, how it stands, and what the operator is told when that changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from config.addresses import Address
from proxy.backend_tls import ServerTls
from proxy.balancer import Balance, Balancer, Member, Standing
from proxy.metrics import BackendMetrics
from proxy.resolver import Target

log = logging.getLogger("snigate.backend")

MAX_TARGETS = 64  # addresses of one name that are used


class ServerAddress(Member):
    """One of a server's addresses."""

    __slots__ = ("target",)

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target


class Server(Member):
    """A server, chosen as a whole; its own addresses are then chosen among in the same way."""

    __slots__ = ("_alone", "_metrics", "_who", "address", "addresses", "name", "tls")

    def __init__(
        self,
        backend: str,
        address: Address,
        *,
        balance: Balance,
        tls: ServerTls | None,
        metrics: BackendMetrics,
        alone: bool,
    ) -> None:
        """`alone`: the backend has no other server."""
        super().__init__()
        self.name = str(address)
        self.address = address
        self.tls = tls
        self.addresses: Balancer[ServerAddress] = Balancer(balance)
        self._metrics = metrics
        self._alone = alone
        self._who = f"backend {backend}" if backend == self.name else f"backend {backend}: server {self.name}"

    def resolved(self, targets: Iterable[Target]) -> None:
        """Use these addresses from now on; what is known of those it had already is kept."""
        known = {one.target: one for one in self.addresses.members}
        wanted = list(dict.fromkeys(targets))[:MAX_TARGETS]
        self.addresses.members = [known.get(target) or ServerAddress(target) for target in wanted]

    def reached(self) -> None:
        """An attempt succeeded."""
        if self.standing is Standing.UP and not self.check_failed:  # as nearly always: there is nothing to tell
            return
        self.succeeded()
        self._tell(False)

    def not_reached(self, reason: str, now: float) -> None:
        """An attempt failed."""
        was = self.in_service
        self.failed(now)
        self._metrics.failed()
        rest = (
            "its clients are turned away until it can" if self._alone else "another server is used while there is one"
        )
        self._tell(was, f"cannot be reached: {reason}; {rest}")

    def passed_check(self) -> None:
        """A check succeeded."""
        was = self.in_service
        self.checked(True)
        self._tell(was)

    def failed_check(self, reason: str) -> None:
        """A check failed."""
        was = self.in_service
        self.checked(False)
        rest = "it is used all the same, being the only one" if self._alone else "another is used while there is one"
        self._tell(was, f"fails its check: {reason}; {rest}")

    def _tell(self, was_in_service: bool, what: str = "") -> None:
        if was_in_service and not self.in_service:
            log.error("%s %s", self._who, what)
            self._metrics.up(self.name, False)
        elif self.in_service and not was_in_service:
            log.info("%s can be reached again", self._who)
            self._metrics.up(self.name, True)
