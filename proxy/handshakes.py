"""What a worker has begun and not finished: how many there may be, and who goes when there are more.

That is handshakes, and the mail dialogues that come before some of them, each counted by themselves.

Strangers who connect and stall are bounded here, long before they could fill the worker. Not to accept, or to refuse
who comes last, would let them lock everybody out: so many silent connections, renewed at each deadline, and no client
gets in. So whoever comes is let in, and room is made: an eighth of those that wait are ended at once, the oldest of
whichever client has most of them, until it has as few as the next. Who floods from few addresses ends what is theirs;
who does from many has to bring on as many new connections as there is room for, while a client's handshake takes place.
A listener with a limit of its own on connections has one on handshakes too, or they would fill the listener instead.

Of a connection nothing is kept for this: the deadlines' own order is looked through, only when there are too many. Nor
are they counted each time: as many as there was room for when they were counted last may begin before that.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from operator import itemgetter
from typing import Protocol

from proxy.account import Account
from proxy.deadlines import DeadlinesOf
from proxy.limits import client_of
from proxy.poller import Loop
from proxy.throttle import Throttle

log = logging.getLogger("snigate.session")

SHARE = 8  # one in so many goes, so that the next search is a while away
COMPLAIN_EVERY = 60.0  # seconds

# What they are, and are too many of, in words for the operator.
HANDSHAKES = "handshakes are unfinished"
DIALOGUES = "mail dialogues have not come to TLS"


class Unfinished(Protocol):
    """Whose handshake or dialogue it is."""

    account: Account

    def overdue(self) -> None:
        """See Waiting."""

    def fail(self, reason: str) -> None:
        """End, for this key of HANDSHAKE_FAILURES."""


class Handshakes:
    """The unfinished handshakes of one worker, those of all its listeners together; `most` of them at a time.

    With DIALOGUES for `what`, its mail dialogues.
    """

    def __init__(self, most: int, what: str = HANDSHAKES) -> None:
        self.left = most  # that may begin before it has to be counted again how many there are
        self._most = most
        self._what = what
        self._parts: list[HandshakeDeadlines] = []
        self._complaints = Throttle(COMPLAIN_EVERY)

    def deadlines(self, loop: Loop, seconds: float, most: int | None = None) -> HandshakeDeadlines:
        """Those of one listener, to be finished within `seconds`; `most`: as many as it may have itself."""
        part = HandshakeDeadlines(loop, seconds, self, most)
        self._parts.append(part)
        return part

    def make_room(self, now: float) -> None:
        """Be called before another begins, where none is left."""
        if sum(map(len, self._parts)) >= self._most:
            self._end_some(self._parts, self._most, "may be (server.max_handshakes)", now)
        self.left = self._most - sum(map(len, self._parts)) - 1

    def make_room_in(self, part: HandshakeDeadlines, most: int, now: float) -> None:
        """The same for one listener that has as many as it may have itself."""
        name = next(one for _, one in part.begun()).account.listener
        self._end_some([part], most, f"listener {name} may have (by its max_connections)", now)

    def _end_some(self, parts: Sequence[HandshakeDeadlines], most: int, which: str, now: float) -> None:
        begun = [one for part in parts for one in part.begun()]
        begun.sort(key=itemgetter(0))  # each part is in order
        waiting = [who for _, who in begun]
        clients = [client_of(who.account.client[0]) for who in waiting]
        too_many = surplus(clients, -(-most // SHARE))
        if self._complaints.allows(now):
            client, held = Counter(clients).most_common(1)[0]
            log.warning(
                "%d %s, as many as %s, %d of them with %s; the oldest of whoever has most are ended",
                len(waiting),
                self._what,
                which,
                held,
                client,
            )
        for place in too_many:
            waiting[place].fail("crowded_out")


class HandshakeDeadlines(DeadlinesOf[Unfinished]):
    """Deadlines of one listener's handshakes, which count with those of the worker's others."""

    __slots__ = ("_handshakes", "_most")

    def __init__(self, loop: Loop, seconds: float, handshakes: Handshakes, most: int | None) -> None:
        super().__init__(loop, seconds)
        self._handshakes = handshakes
        self._most = most

    def set(self, who: Unfinished, now: float) -> None:
        """See Deadlines. Others may have to go."""
        handshakes = self._handshakes
        if self._most is not None and len(self._due) >= self._most:
            handshakes.make_room_in(self, self._most, now)
        handshakes.left -= 1
        if handshakes.left < 0:
            handshakes.make_room(now)
        super().set(who, now)

    def begun(self) -> Iterator[tuple[float, Unfinished]]:
        """When each began, in the loop's time, and whose it is."""
        for who, due in self._due.items():
            yield due - self.seconds, who


def surplus(clients: Sequence[Hashable], count: int) -> list[int]:
    """Which `count` places are to be given up, where each is held by one of `clients`, the oldest first.

    As if one were taken after the other, each time the oldest of whoever has most then; of several with as many, the
    oldest of all.
    """
    held = Counter[Hashable]()
    younger = [0] * len(clients)  # how many of the same client's are no older
    for place in range(len(clients) - 1, -1, -1):
        held[clients[place]] += 1
        younger[place] = held[clients[place]]
    return sorted(range(len(clients)), key=younger.__getitem__, reverse=True)[:count]
