"""The line between the supervisor and one child: a socket pair whose end tells each of the other's death.

A child says that it is ready, with a few facts; the supervisor tells it to drain, or how the other processes are. One
JSON object a line. A child whose channel ends has lost its supervisor, and ends too.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
from collections.abc import AsyncIterator
from typing import Any

MAX_LINE = 1 << 20

Message = dict[str, Any]


class Channel:
    """A child's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def say(self, message: Message) -> None:
        """Tell the supervisor. Where it is gone, the process ends."""
        rest = encode(message)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                select.select([], [self._socket], [])
            except OSError:
                os._exit(0)

    async def listen(self) -> AsyncIterator[Message]:
        """What the supervisor says, until it is gone."""
        reader, writer = await asyncio.open_connection(sock=self._socket.dup(), limit=MAX_LINE)
        try:
            while line := await reader.readline():
                yield json.loads(line)
        except OSError:
            return
        finally:
            writer.close()


def encode(message: Message) -> bytes:
    """One message as a line."""
    return json.dumps(message).encode() + b"\n"
