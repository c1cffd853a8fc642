"""What asyncio complains of in the keeper and in control, in snigate's own words where an operator can meet it.

Where a process has no file descriptor left to accept with, asyncio says so, with a traceback, for each connection that
could be waiting, and again each second.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import Any

from proxy.throttle import Throttle

log = logging.getLogger("snigate.serve")

SAY_EVERY = 60.0  # seconds
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class LoopTrouble:
    """An exception handler for an event loop."""

    def __init__(self) -> None:
        self._throttle = Throttle(SAY_EVERY)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say what went wrong."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _FULL and "socket" in context):
            loop.default_exception_handler(context)
        elif self._throttle.allows(loop.time()):
            log.error(
                "no further connection can be accepted now (%s); those that are open go on, and the rest wait. "
                "Raise the limit of open files",
                os.strerror(error.errno or 0),
            )
