"""How many new connections a client may begin in a while: a token bucket for each."""

from __future__ import annotations

import math
from collections import OrderedDict

MOST = 10_000  # clients that are remembered; about 200 bytes each. Who was quiet for longest is forgotten first
SAVED = 2.0  # seconds' worth of connections that a quiet client has saved up
LEAST_SAVED = 10.0  # connections; a browser opens several at once


class Rate:
    """So many connections a second and client, and some more after a quiet time."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(LEAST_SAVED, per_second * SAVED)
        self._saved: OrderedDict[str, tuple[float, float]] = OrderedDict()  # connections, at that time

    def allows(self, client: str, now: float) -> bool:
        """Whether this client may begin another connection; if so, it is counted. `now`: seconds that never go back."""
        new = self._most if len(self._saved) < MOST else 1.0  # where there are so many, nobody comes with much
        saved, at = self._saved.get(client, (new, now))
        saved = min(self._most, saved + (now - at) * self._per_second)
        allowed = saved >= 1 or math.isclose(saved, 1)
        self._saved[client] = (saved - 1 if allowed else saved, now)
        self._saved.move_to_end(client)
        if len(self._saved) > MOST:
            self._saved.popitem(last=False)
        return allowed
