"""Asking a listener's default backend, now and then, what it says of itself before TLS.

Each worker asks for itself: a connection of snigate's own every five minutes, to whichever server is next. What was
heard last holds until a server says something else: one that cannot be asked changes nothing of what clients are told,
and one that never could leaves them snigate's own words.
"""

from __future__ import annotations

import asyncio
import logging

from proxy.backend import Reaching
from proxy.leg import close_softly
from proxy.mail import MailService
from proxy.poller import Loop
from proxy.pool import Pool
from proxy.starttls.probe import Probe
from proxy.talk import AnyConversation

INTERVAL = 300.0  # seconds
FIRST_BACK_OFF = 1.0  # seconds until a server that could not be asked is again, twice as long each time
LONGEST_BACK_OFF = 60.0

log = logging.getLogger("snigate.mail")


class Probes:
    """The probes of one listener."""

    def __init__(self, loop: Loop, listener: str, mail: MailService, pool: Pool) -> None:
        self._loop = loop
        self._listener = listener
        self._mail = mail
        self._pool = pool
        self._back_off = 0.0  # seconds; 0 while servers answer
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
            probe = await self._converse()
        except ConnectionError as error:
            self._failed(str(error))
        else:
            if self._back_off:
                log.info("listener %s: backend %s says again what it can do", self._listener, self._pool.name)
            self._back_off = 0.0
            self._mail.probed(probe.outcome)

    async def _converse(self) -> Probe:
        """A conversation that is done. Raises ConnectionError, the reason in words."""
        held: list[Probe] = []

        def converse() -> AnyConversation:
            held.append(self._mail.probe())
            return held[-1]

        reaching = Reaching(asyncio.get_running_loop())
        connected = await reaching.connected(self._pool.probe(self._loop, converse, reaching))
        close_softly(connected.socket)
        connected.release()
        return held[-1]

    def _failed(self, reason: str) -> None:
        if not self._back_off:
            log.warning(
                "listener %s: backend %s does not say what it can do (%s); until it does, clients are told before TLS "
                "what it said last, or the least",
                self._listener,
                self._pool.name,
                reason,
            )
        self._back_off = min(self._back_off * 2, LONGEST_BACK_OFF) or FIRST_BACK_OFF
