"""Telling systemd how snigate does, by sd_notify(3): READY, RELOADING, STOPPING, STATUS, and signs of life.

Where nobody listens ($NOTIFY_SOCKET is not set) all of this does nothing, and what cannot be told is not: a service
manager's trouble is none of the connections'.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

PHASES = {"ready": "READY=1", "reloading": "RELOADING=1", "stopping": "STOPPING=1"}


class ServiceManager:
    """Whoever has started this process, if it is one that wants to know."""

    def __init__(self, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._interval = self._watchdog(environment, os.getpid() if pid is None else pid)
        self._alive_at = 0.0  # monotonic seconds, when the next sign of life is due
        self._told = ""

    def tell(self, phase: str, status: str) -> None:
        """Say what is so, where it was not said last: `phase` is one of PHASES, or "starting"."""
        text = f"STATUS={status}\n{PHASES.get(phase, '')}"
        if text == self._told:
            return
        self._told = text
        if phase == "reloading":
            text += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
        self._send(text)

    def live(self, now: float) -> None:
        """Give a sign of life, where one is due. `now`: monotonic seconds."""
        if self._interval and now >= self._alive_at:
            self._alive_at = now + self._interval
            self._send("WATCHDOG=1")

    def due(self) -> float | None:
        """When the next sign of life is due; None: never."""
        return self._alive_at if self._interval else None

    def leave(self) -> None:
        """In a process just forked: what it does is nobody's business."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _watchdog(self, environment: Mapping[str, str], pid: int) -> float:
        """Seconds between signs of life, half of what is allowed; 0: none is wanted of this process."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        wanted = self._socket is not None and environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        return int(microseconds) / 2e6 if wanted and microseconds.isdigit() else 0.0

    def _send(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)
