"""Who has signed in to the console: by the token, or the code of the link once, then by a cookie of this process's own.

A session ends after an hour without a request, twelve hours after it began, when it is signed out of, or when this
process ends. It belongs to the user of this machine who began it, where it came from this machine: a cookie is sent to
every port of a host, so others may come to know it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from admin.answers import Done
from admin.peer import UNKNOWN

IDLE, LONGEST = 3600.0, 12 * 3600.0  # seconds
MOST = 64  # sessions; the one that was idle for longest makes room
CODE_LIFE = 600.0  # seconds from the start in which the link's code is good


@dataclass
class Session:
    """One browser's. `csrf` is in each of its forms; `done` is what it did last, and is shown once."""

    began: float
    seen: float
    owner: str  # see admin.peer
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    done: list[Done] = field(default_factory=list)

    def has_sent(self, csrf: str) -> bool:
        """Whether a form was this session's."""
        return _same(csrf, self.csrf)


class Sessions:
    """All of them. `clock`: seconds that never go back; `code`: what the link has, good once and not for long."""

    def __init__(
        self,
        token: str,
        code: str = "",
        clock: Callable[[], float] = time.monotonic,
        code_life: float = CODE_LIFE,
        spend: Callable[[], bool] = lambda: True,
    ) -> None:
        """`code_life`: seconds that the code still has; `spend`: says, once for all processes, that it may be used."""
        self._token = token
        self._code = code
        self._clock = clock
        self._code_until = clock() + code_life
        self._spend = spend
        self._sessions: dict[str, Session] = {}

    def accepts(self, token: str) -> bool:
        """Whether somebody would be let in by that."""
        return _same(token.strip(), self._token) or self._is_code(token.strip())

    def sign_in(self, token: str, owner: str) -> str | None:
        """A new session's cookie; None for a wrong token, or when it is not known who is to have it."""
        now, token = self._clock(), token.strip()
        if owner == UNKNOWN:
            return None
        if self._is_code(token):
            self._code = ""
            if not self._spend():
                return None
        elif not _same(token, self._token):
            return None
        if len(self._sessions) >= MOST:
            del self._sessions[min(self._sessions, key=lambda one: self._sessions[one].seen)]
        cookie = secrets.token_urlsafe(32)
        self._sessions[_name(cookie)] = Session(now, now, owner)
        return cookie

    def _is_code(self, token: str) -> bool:
        return bool(self._code) and self._clock() < self._code_until and _same(token, self._code)

    def knows(self, cookie: str | None) -> bool:
        """Whether there is such a session, whoever's."""
        return bool(cookie) and _name(cookie or "") in self._sessions

    def get(self, cookie: str | None, owner: str) -> Session | None:
        """The session of a cookie, while it lasts, for its owner."""
        if not cookie:
            return None
        name, now = _name(cookie), self._clock()
        session = self._sessions.get(name)
        if session is None or owner == UNKNOWN or session.owner != owner:
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


def link_code(token: str, started_at: float) -> str:
    """The code in the link that a start prints. The supervisor, which prints it, and control make it independently."""
    return hmac.new(token.encode(), f"sign-in {started_at!r}".encode(), hashlib.sha256).hexdigest()[:32]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())


def _name(cookie: str) -> str:
    """What is looked up: how long that takes tells nothing of a cookie."""
    return hashlib.sha256(cookie.encode(errors="replace")).hexdigest()
