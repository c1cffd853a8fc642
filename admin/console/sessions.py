"""Who has signed in to the console: by the token once, then by a cookie that only this process knows.

A session ends after an hour without a request, twelve hours after it began, when it is signed out of, or when this
process ends. Wrong tokens are counted by address, and after a few no more are looked at for a while.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from admin.answers import Done

IDLE, LONGEST = 3600.0, 12 * 3600.0  # seconds
MOST = 64  # sessions; the one that was idle for longest makes room
MISTAKES, PAUSE = 5, 300.0  # wrong tokens from one address, in so many seconds
MOST_ADDRESSES = 1024


@dataclass
class Session:
    """One browser's. `csrf` is in each of its forms; `done` is what it did last, and is shown once."""

    began: float
    seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    done: list[Done] = field(default_factory=list)

    def has_sent(self, csrf: str) -> bool:
        """Whether a form was this session's."""
        return hmac.compare_digest(csrf.encode(), self.csrf.encode())


class Sessions:
    """All of them. `clock`: seconds that never go back."""

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._mistakes: dict[str, list[float]] = {}

    def sign_in(self, token: str, address: str) -> str | None:
        """A new session's cookie; None for a wrong token, or for anything while there are too many."""
        now = self._clock()
        if self.wait(address):
            return None
        if not hmac.compare_digest(token.strip().encode(), self._token.encode()):
            if len(self._mistakes) >= MOST_ADDRESSES:
                self._mistakes.pop(next(iter(self._mistakes)))
            self._mistakes.setdefault(address, []).append(now)
            return None
        self._mistakes.pop(address, None)
        if len(self._sessions) >= MOST:
            del self._sessions[min(self._sessions, key=lambda one: self._sessions[one].seen)]
        cookie = secrets.token_urlsafe(32)
        self._sessions[_name(cookie)] = Session(now, now)
        return cookie

    def wait(self, address: str) -> float:
        """Seconds until tokens from this address are looked at again; 0: now."""
        now = self._clock()
        recent = [at for at in self._mistakes.get(address, ()) if now - at < PAUSE]
        if recent:
            self._mistakes[address] = recent
        else:
            self._mistakes.pop(address, None)
        return recent[0] + PAUSE - now if len(recent) >= MISTAKES else 0.0

    def get(self, cookie: str | None) -> Session | None:
        """The session of a cookie, while it lasts."""
        if not cookie:
            return None
        name, now = _name(cookie), self._clock()
        session = self._sessions.get(name)
        if session is None:
            return None
        if now - session.seen > IDLE or now - session.began > LONGEST:
            del self._sessions[name]
            return None
        session.seen = now
        return session

    def sign_out(self, cookie: str | None) -> None:
        """End it."""
        if cookie:
            self._sessions.pop(_name(cookie), None)


def _name(cookie: str) -> str:
    """What is looked up: how long that takes tells nothing of a cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()
