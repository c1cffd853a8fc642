"""A session's way to its backend, begun once: while the handshake runs, or when it is done.

IDLE          not begun
DIALLING      begun, and nothing has come of it yet
REACHED       `connected` is the session's until it is closed or released
UNREACHABLE   no server could be reached; the account has the reason
TURNED_AWAY   a mail server will have nothing to do with this client; `words` are for it to hear
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from proxy.account import Account
from proxy.backend import Backend, Connected, Dial, Established, MailClient
from proxy.service import Service
from proxy.starttls.conversation import TurnedAway


class UpstreamState(Enum):
    """See above."""

    IDLE = "idle"
    DIALLING = "dialling"
    REACHED = "reached"
    UNREACHABLE = "unreachable"
    TURNED_AWAY = "turned-away"


class Owner(Protocol):
    """What an upstream asks of its session."""

    def upstream_settled(self) -> None:
        """Something has come of the dial: the upstream's state says what. Called once, maybe before `dial` returns."""

    def client_has_left(self) -> bool:
        """Whether nobody waits any more. Then the session is over, and the upstream closed."""


class Upstream:
    """One session's."""

    __slots__ = ("_account", "_began", "_dial", "_owner", "_service", "connected", "state", "words")

    def __init__(self, service: Service, account: Account) -> None:
        """`account` is told of the backend and the server."""
        self._service = service
        self._account = account
        self._owner: Owner | None = None  # while there is a dial: nothing is to keep a session alive that is over
        self._began = 0.0
        self._dial: Dial | None = None
        self.connected: Connected | None = None
        self.words = b""
        self.state = UpstreamState.IDLE

    def dial(
        self, owner: Owner, backend: Backend, established: Established | None, mail: MailClient | None = None
    ) -> None:
        """Begin; see Backend.dial."""
        loop = self._service.loop
        self._owner = owner
        self._account.backend = backend.name
        self._began = loop.time()
        self.state = UpstreamState.DIALLING
        dial = backend.dial(loop, established, self, mail)
        if self.state is UpstreamState.DIALLING:
            self._dial = dial

    def keep_an_eye_on_client(self) -> None:
        """See now and again whether the client has left: a mail server may take a minute."""
        if self.state is UpstreamState.DIALLING:
            self._service.glances.set(self, self._service.loop.time())

    def overdue(self) -> None:
        """See Waiting."""
        if self._owner is not None and not self._owner.client_has_left():
            self.keep_an_eye_on_client()

    def reached(self, connected: Connected) -> None:
        """See Taker."""
        service, account = self._service, self._account
        account.server = connected.server
        account.connect = service.loop.time() - self._began
        service.backend_metrics[account.backend].connected(account.connect)
        self.connected = connected
        self._settle(UpstreamState.REACHED)

    def not_reached(self, reason: str) -> None:
        """See Taker."""
        self._account.reason = reason
        self._settle(UpstreamState.UNREACHABLE)

    def turned_away(self, error: TurnedAway) -> None:
        """See Taker."""
        self._account.reason = str(error)
        self.words = error.words
        self._settle(UpstreamState.TURNED_AWAY)

    def close(self) -> None:
        """Give up the dial, and close what it has reached; it is still to be released."""
        self._owner = None
        self._service.glances.clear(self)
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self.connected is not None:
            self.connected.socket.close()

    def release(self) -> None:
        """What was reached has ended."""
        if self.connected is not None:
            self.connected.release()

    def _settle(self, state: UpstreamState) -> None:
        self.state = state
        self._service.glances.clear(self)
        owner, self._owner, self._dial = self._owner, None, None
        assert owner is not None
        owner.upstream_settled()
