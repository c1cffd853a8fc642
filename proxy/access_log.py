"""One line a connection, on stderr: text for people, JSON for machines.

Lines are collected and written a few times a second, whole lines at a time, each at most 4 KiB: the kernel keeps such
writes of several workers apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import time
from typing import TYPE_CHECKING

from proxy.errors import HANDSHAKE_FAILURES, Outcome, Whose

if TYPE_CHECKING:
    from proxy.account import Account
    from proxy.backend import Established

ECS = "8.17"  # version of the Elastic Common Schema
MAX_WORD = 256  # characters of a value that others choose
FLUSH_EVERY = 0.2  # seconds
MAX_HELD = 4096  # bytes; a pipe keeps writes up to this size whole (PIPE_BUF)


class AccessLog:
    """Collects lines and writes them to a file descriptor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, style: str) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._format = _as_json if style == "json" else _as_text
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
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
        """Write what is held. Lines that cannot be written now (a closed or a full pipe, a full disk) are lost.

        Whoever reads the log may stall; that must not stall what is logged. A write of MAX_HELD bytes at most does not
        block where the kernel says that it will not.
        """
        data, self._lines, self._size = b"".join(self._lines), [], 0
        if data:
            try:
                if self._writable.poll(0):
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
    parts.append(f"sni={account.server_name or '-'} route={account.route or '-'}")
    established = account.established
    if established is not None and established.negotiated is not None and established.level is not None:
        negotiated = established.negotiated
        parts.append(f"level={established.level.value} certificate={established.fingerprint[:16]}")
        parts.append(f"tls={negotiated.version} cipher={negotiated.cipher} group={negotiated.group or '-'}")
        parts.append(f"alpn={negotiated.alpn or '-'} resumed={'yes' if negotiated.resumed else 'no'}")
        if established.client_name is not None:
            parts.append(f"client={_word(established.client_name or '-')}")
    if account.ja4:
        parts.append(f"ja4={account.ja4}")
    if account.backend:
        parts.append(f"backend={account.backend}")
    if account.server:
        parts.append(f"server={_word(account.server)}")
    parts.append(f"to_backend={account.to_backend} to_client={account.to_client}")
    for what, duration in (("handshake", account.handshake), ("connect", account.connect), ("total", seconds)):
        if duration is not None:
            parts.append(f"{what}={duration:.3f}s")
    parts.append(f"end={outcome.value}")
    whose = ended_by(account, outcome)
    if whose is not None:
        parts.append(f"by={whose.value}")
    if account.reason:
        parts.append(f"reason={_word(account.reason)}")
    return " ".join(parts) + "\n"


def _as_json(account: Account, outcome: Outcome, seconds: float) -> str:
    """Field names are those of the Elastic Common Schema where it has one, else below "snigate."."""
    whose = ended_by(account, outcome)
    record: dict[str, object] = {
        "@timestamp": _now(),
        "ecs.version": ECS,
        "log.level": "info",
        "log.logger": "snigate.access",
        "event.dataset": "snigate.access",
        "event.kind": "event",
        "event.category": ["network"],
        "event.id": account.id or None,
        "event.action": outcome.value,
        "event.outcome": "success" if whose is None else "failure",
        "event.reason": account.reason[:MAX_WORD] or None,
        "event.duration": round(seconds * 1e9),  # nanoseconds
        "source.ip": account.client[0],
        "source.port": account.client[1],
        "source.bytes": account.to_backend,
        "destination.bytes": account.to_client,
        "tls.client.server_name": account.server_name,
        "tls.client.ja4": account.ja4 or None,
        "tls.established": account.handshake is not None,
        "snigate.listener": account.listener,
        "snigate.route": account.route or None,
        "snigate.backend": account.backend or None,
        "snigate.server": account.server or None,
        "snigate.ended_by": whose.value if whose is not None else None,
        "snigate.handshake.duration": _nanoseconds(account.handshake),
        "snigate.connect.duration": _nanoseconds(account.connect),
    }
    if account.established is not None:
        record |= _established(account.established)
    return json.dumps({key: value for key, value in record.items() if value is not None}) + "\n"


def _established(established: Established) -> dict[str, object]:
    negotiated = established.negotiated
    record: dict[str, object] = {"destination.ip": established.local[0], "destination.port": established.local[1]}
    if negotiated is not None and established.level is not None:
        record |= {
            "tls.version_protocol": "tls",
            "tls.version": negotiated.version.removeprefix("TLSv") if "." in negotiated.version else "1.0",
            "tls.cipher": negotiated.cipher,
            "tls.curve": negotiated.group or None,
            "tls.next_protocol": negotiated.alpn or None,
            "tls.resumed": negotiated.resumed,
            "tls.server.hash.sha256": established.fingerprint.upper(),
            "tls.client.x509.subject.common_name": (established.client_name or "")[:MAX_WORD] or None,
            "snigate.level": established.level.value,
        }
    return record


def ended_by(account: Account, outcome: Outcome) -> Whose | None:
    """Whose doing a connection's end was; None for an ordinary one."""
    if outcome is Outcome.HANDSHAKE_FAILED and account.reason in HANDSHAKE_FAILURES:
        return HANDSHAKE_FAILURES[account.reason].whose
    return outcome.whose


def _word(text: str) -> str:
    """A text that may have spaces, or worse, as one value of a line, which stays a short one."""
    text = text[:MAX_WORD]
    return text if text.isascii() and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z"
