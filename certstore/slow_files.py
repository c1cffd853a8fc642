"""Files that took too long to decrypt: left alone for a while, ever longer, so that they do not use up every scan."""

from __future__ import annotations

import time
from collections.abc import Container
from typing import NamedTuple

from certstore.errors import RejectReason
from certstore.file_state import FileState, Signature

RETRY_SLOW = 60.0  # seconds until a file that took too long to decrypt is tried again, then twice as long each time...
RETRY_SLOW_AT_MOST = 3600.0  # ...up to this


class _Slow(NamedTuple):
    """A file as it was when it took too long, how long to leave it alone, and until when (monotonic)."""

    signature: Signature
    wait: float
    again_at: float


class SlowFiles:
    """When to try each of them again."""

    def __init__(self) -> None:
        self._slow: dict[str, _Slow] = {}

    def is_due(self, path: str) -> bool:
        """Whether a file that took too long, and has not changed since, is to be tried again."""
        known = self._slow.get(path)
        return known is None or time.monotonic() >= known.again_at

    def note(self, path: str, state: FileState) -> None:
        """Take in what came of trying a file."""
        if state.rejection is None or state.rejection.reason is not RejectReason.UNLOCK_TIMEOUT:
            return
        known, now = self._slow.get(path), time.monotonic()
        if known is None or known.signature != state.signature:
            self._slow[path] = _Slow(state.signature, RETRY_SLOW, now + RETRY_SLOW)
        else:
            wait = min(2 * known.wait, RETRY_SLOW_AT_MOST)
            self._slow[path] = _Slow(state.signature, wait, now + wait)

    def keep(self, paths: Container[str]) -> None:
        """Forget all but these."""
        self._slow = {path: slow for path, slow in self._slow.items() if path in paths}

    def forget(self, path: str) -> None:
        """This one is slow no longer."""
        self._slow.pop(path, None)
