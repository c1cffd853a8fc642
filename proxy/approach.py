"""One session's way to its backend: not begun, dialling, connected or failed."""

from __future__ import annotations

from collections.abc import Callable

from proxy.account import Account
from proxy.backend import Backend, Connected, Dial, Established
from proxy.service import Service


class Approach:
    """Dials, notes what came of it in the account and the metrics, and calls `on_settled` once."""

    __slots__ = ("_account", "_began", "_dial", "_on_settled", "_service", "begun", "connected", "failure")

    def __init__(self, service: Service, account: Account, on_settled: Callable[[], None]) -> None:
        self._service = service
        self._account = account
        self._on_settled = on_settled
        self._dial: Dial | None = None
        self._began = 0.0
        self.begun = False
        self.connected: Connected | None = None
        self.failure = ""  # why no server could be reached, in words

    def begin(self, backend: Backend, established: Established | None) -> None:
        """Dial; see Backend.dial."""
        self.begun = True
        self._account.backend = backend.name
        self._began = self._service.loop.time()
        self._dial = backend.dial(self._service.loop, established, self._reached, self._failed)

    def abandon(self) -> None:
        """Give up, whatever has been reached."""
        if self._dial is not None:
            self._dial.cancel()
        if self.connected is not None:
            self.connected.drop(self._service.loop)
            self.connected = None

    def over(self) -> None:
        """The connection, if there was one, has ended. Nobody is called any more, so nobody is kept."""
        self._on_settled = _nothing
        if self.connected is not None:
            self.connected.release()

    def _reached(self, connected: Connected) -> None:
        self._dial = None
        self.connected = connected
        account = self._account
        account.server = connected.server
        account.connect = self._service.loop.time() - self._began
        self._service.backend_metrics[account.backend].connected(account.connect)
        self._on_settled()

    def _failed(self, reason: str) -> None:
        self._dial = None
        self.failure = reason
        self._on_settled()


def _nothing() -> None:
    """Done."""
