"""Asking a listener's default backend, now and then, what it says of itself before TLS.

Each worker asks for itself: a connection of snigate's own every five minutes, to whichever server is next. What was
heard last holds until a server says something else: one that cannot be asked changes nothing of what clients are told,
and one that never could leaves them snigate's own words.

A server that cannot be reached is the pool's to complain about. One that can and says what it should not is
complained about here, and used all the same: its clients may fare better.
"""

from __future__ import annotations

import asyncio
import logging

from proxy.backend import Connected, Reaching
from proxy.leg import close_softly
from proxy.mail import MailService
from proxy.poller import Loop
from proxy.pool import Pool
from proxy.starttls.conversation import TurnedAway
from proxy.talk import Talk
from proxy.tls_engine import TlsEngine

INTERVAL = 300.0  # seconds
FIRST_BACK_OFF = 1.0  # seconds until a server that could not be asked is again, twice as long each time
LONGEST_BACK_OFF = 60.0
PATIENCE = 60.0  # seconds for one conversation

log = logging.getLogger("snigate.mail")


class _Unfit(Exception):  # noqa: N818 - what a server is
    """A server does not say what it should; the text says how, and fits behind its name."""


class Probes:
    """The probes of one listener."""

    def __init__(self, loop: Loop, listener: str, mail: MailService, pool: Pool) -> None:
        self._loop = loop
        self._listener = listener
        self._mail = mail
        self._pool = pool
        self._back_off = 0.0  # seconds; 0 while servers answer
        self._complained = False
        self.asked = asyncio.Event()  # once a server has answered, or could not be asked

    async def keep(self) -> None:
        """Ask now and then, for ever."""
        while True:
            await self.ask()
            self.asked.set()
            await asyncio.sleep(self._back_off or INTERVAL)

    async def ask(self) -> None:
        """Ask once."""
        try:
            await self._ask()
        except ConnectionError:
            self._back_off = min(self._back_off * 2, LONGEST_BACK_OFF) or FIRST_BACK_OFF
        else:
            self._back_off = 0.0

    async def _ask(self) -> None:
        """Raises ConnectionError."""
        reaching = Reaching(asyncio.get_running_loop())
        connected = await reaching.connected(self._pool.dial_for_itself(self._loop, reaching))
        who = f"listener {self._listener}: server {connected.server} of backend {self._pool.name}"
        try:
            await self._converse(connected)
        except _Unfit as unfit:
            if not self._complained:
                log.error("%s does not say what it can do: %s", who, unfit)
            self._complained = True
            raise ConnectionError(str(unfit)) from None
        finally:
            close_softly(connected.socket)
            connected.release()
        if self._complained:
            log.info("%s says what it can do", who)
        self._complained = False

    async def _converse(self, connected: Connected) -> None:
        """Raises _Unfit."""
        pool, conversed = self._pool, _Conversed()
        probe = self._mail.probe(starttls=pool.begins_by_starttls)
        tls = pool.tls_towards(connected.server)
        talk = Talk(self._loop, connected.socket, connected.engine, probe, tls, conversed, introduced=pool.introduces)
        talk.begin(connected.first)
        try:
            async with asyncio.timeout(PATIENCE):
                await conversed.outcome
        except TimeoutError:
            raise _Unfit(f"{probe.awaited} had not come after {PATIENCE:g} s") from None
        finally:
            talk.stop()
        self._mail.probed(probe.outcome)


class _Conversed:
    """A party that can be waited for."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def talked(self, _engine: TlsEngine | None, _unsent: bytes) -> None:
        """See Party."""
        self.outcome.set_result(None)

    def turned_away(self, error: TurnedAway) -> None:
        """See Party."""
        self.failed(str(error))

    def dropped(self, reason: str) -> None:
        """See Party."""
        self.failed(reason)

    def failed(self, reason: str) -> None:
        """See Party."""
        self.outcome.set_exception(_Unfit(reason))
