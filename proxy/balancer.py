"""Which of several servers is next, and which of them are left out: decisions alone, the clock is passed in.

A member is UP until an attempt to reach it fails. Then it is OUT, for a second at first, and for twice as long after
each further trial that fails, up to half a minute. When that time is over, one attempt is its trial (ON_TRIAL), and
the others wait for what comes of it. Any success, at any time, makes it UP at once. A member whose last check failed is
left out as well, until a check succeeds.

Nobody is refused because of a timer: where every member is out, they are tried all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, IntEnum
from typing import Generic, Literal, TypeVar

FIRST_BACK_OFF = 1.0  # seconds
LONGEST_BACK_OFF = 30.0

Balance = Literal["least-connections", "round-robin"]


class Standing(Enum):
    """What the last attempts to reach a member say of it."""

    UP = "up"
    OUT = "out"
    ON_TRIAL = "on trial"


class Rank(IntEnum):
    """How good a choice a member is; a lower rank is always chosen before a higher one."""

    READY = 0
    CHECK_FAILED = 1  # it can be reached, as far as is known
    OUT = 2


class Member:
    """One of those that are chosen from. `active` counts attempts under way and open connections."""

    __slots__ = ("_back_at", "_back_off", "active", "check_failed", "standing")

    def __init__(self) -> None:
        self.active = 0
        self.standing = Standing.UP
        self.check_failed = False
        self._back_off = 0.0  # seconds that it is OUT for; 0 while UP
        self._back_at = 0.0

    @property
    def in_service(self) -> bool:
        """Whether nothing speaks against it."""
        return self.standing is Standing.UP and not self.check_failed

    def rank(self, now: float) -> Rank:
        """How good a choice it is at `now`."""
        if self.standing is Standing.ON_TRIAL or (self.standing is Standing.OUT and now < self._back_at):
            return Rank.OUT
        return Rank.CHECK_FAILED if self.check_failed else Rank.READY

    def take(self, now: float) -> None:
        """An attempt begins; exactly one of `failed`, `abandoned` and `release` ends it, or its connection."""
        self.active += 1
        if self.standing is Standing.OUT and now >= self._back_at:
            self.standing = Standing.ON_TRIAL

    def succeeded(self) -> None:
        """It was reached."""
        self.standing = Standing.UP
        self._back_off = 0.0

    def failed(self, now: float) -> None:
        """An attempt failed. One that began before others did, or that was made in spite of them, adds nothing."""
        self.active -= 1
        if self.standing is not Standing.OUT:
            self._back_off = min(self._back_off * 2, LONGEST_BACK_OFF) or FIRST_BACK_OFF
            self._back_at = now + self._back_off
            self.standing = Standing.OUT

    def abandoned(self) -> None:
        """An attempt was given up, and nothing was learnt: if it was the trial, the next one is."""
        self.active -= 1
        if self.standing is Standing.ON_TRIAL:
            self.standing = Standing.OUT

    def release(self) -> None:
        """A connection has ended."""
        self.active -= 1

    def checked(self, passed: bool) -> None:
        """A check was done; one that passed has reached it."""
        self.check_failed = not passed
        if passed:
            self.succeeded()


M = TypeVar("M", bound=Member)


class Balancer(Generic[M]):
    """Chooses among members. `members` may be replaced at any time."""

    __slots__ = ("_by_active", "_turn", "members")

    def __init__(self, balance: Balance, members: Sequence[M] = ()) -> None:
        self.members: Sequence[M] = members
        self._by_active = balance == "least-connections"
        self._turn = 0

    def choose(self, now: float, tried: Collection[M] = ()) -> M | None:
        """The next member, already taken, that is not among those `tried`; None when there is none left.

        Of those with the best rank: the one with the fewest connections, or whoever's turn it is, which is also what
        decides between equals.
        """
        members = self.members
        best = (members[0] if members[0] not in tried else None) if len(members) == 1 else self._best(now, tried)
        if best is not None:
            best.take(now)
        return best

    def _best(self, now: float, tried: Collection[M]) -> M | None:
        members, best, best_key, best_place = self.members, None, (Rank.OUT, 0), 0
        for place in (*range(self._turn, len(members)), *range(min(self._turn, len(members)))):
            member = members[place]
            key = (member.rank(now), member.active if self._by_active else 0)
            if (best is None or key < best_key) and member not in tried:
                best, best_key, best_place = member, key, place
        if best is not None:
            self._turn = best_place + 1
        return best
