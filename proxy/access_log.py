"""One line a connection, on stderr: text for people, JSON for machines.

Lines are collected and written a few times a second, whole lines at a time, each at most 4 KiB: the kernel keeps such
writes of several workers apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING

from proxy.errors import Outcome

if TYPE_CHECKING:
    from proxy.session import Account

FLUSH_EVERY = 0.2  # seconds
MAX_HELD = 4096  # bytes; a pipe keeps writes up to this size whole (PIPE_BUF)


class AccessLog:
    """Collects lines and writes them to a file descriptor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, style: str) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._format = _as_json if style == "json" else _as_text
        self._lines: list[bytes] = []
        self._size = 0
        self._flush_planned = False

    def write(self, account: Account, outcome: Outcome, seconds: float) -> None:
        """Log a connection that ended."""
        line = self._format(account, outcome, seconds).encode("utf-8", "backslashreplace")
        if self._size + len(line) > MAX_HELD:
            self.flush()
        self._lines.append(line)
        self._size += len(line)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_later(FLUSH_EVERY, self._on_time)

    def flush(self) -> None:
        """Write what is held. Lines that cannot be written (a closed pipe, a full disk) are lost, nothing else is."""
        data, self._lines, self._size = b"".join(self._lines), [], 0
        if data:
            try:
                os.write(self._descriptor, data)
            except OSError:
                return

    def _on_time(self) -> None:
        self._flush_planned = False
        self.flush()


def _as_text(account: Account, outcome: Outcome, seconds: float) -> str:
    parts = [f"{_now()} access {account.listener} {account.client[0]}:{account.client[1]}"]
    if account.id:
        parts.append(f"id={account.id}")
    parts.append(f"sni={account.server_name or '-'}")
    established = account.established
    if established is not None:
        negotiated = established.negotiated
        parts.append(f"level={established.level.value} certificate={established.fingerprint[:16]}")
        parts.append(f"{negotiated.version} {negotiated.cipher} {negotiated.group or '-'}")
        parts.append(f"alpn={negotiated.alpn or '-'} resumed={'yes' if negotiated.resumed else 'no'}")
    if account.backend:
        parts.append(f"backend={account.backend}")
    parts.append(f"to_backend={account.to_backend} to_client={account.to_client} {seconds:.3f}s {outcome.value}")
    if account.reason:
        parts.append(f"reason={account.reason}")
    return " ".join(parts) + "\n"


def _as_json(account: Account, outcome: Outcome, seconds: float) -> str:
    record: dict[str, object] = {
        "@timestamp": _now(),
        "log.logger": "access",
        "listener": account.listener,
        "id": account.id or None,
        "client.ip": account.client[0],
        "client.port": account.client[1],
        "server_name": account.server_name,
        "backend": account.backend or None,
        "bytes_to_backend": account.to_backend,
        "bytes_to_client": account.to_client,
        "seconds": round(seconds, 6),
        "outcome": outcome.value,
        "reason": account.reason or None,
    }
    established = account.established
    if established is not None:
        record |= established.negotiated._asdict()
        record |= {"level": established.level.value, "fingerprint": established.fingerprint}
    return json.dumps(record) + "\n"


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z"
