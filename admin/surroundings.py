"""What the control process is given: made by the supervisor, which needs nothing of the HTTP side for it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.addresses import TcpAddress
from config.model import Config


@dataclass(frozen=True)
class Sockets:
    """What control listens on; bound by the supervisor, so that they outlive this process."""

    admin: socket.socket
    metrics: socket.socket | None
    local: socket.socket

    @property
    def every(self) -> tuple[socket.socket, ...]:
        """All of them."""
        return (*self.tcp, self.local)

    @property
    def tcp(self) -> tuple[socket.socket, ...]:
        """Those at addresses that an operator chose."""
        return tuple(one for one in (self.admin, self.metrics) if one is not None)

    @property
    def addresses(self) -> dict[str, str]:
        """The TCP addresses as the kernel has them."""
        named = {"admin": self.admin, "metrics": self.metrics}
        return {name: str(TcpAddress(*sock.getsockname()[:2])) for name, sock in named.items() if sock is not None}


@dataclass(frozen=True)
class Surroundings:
    """What a control process is given. It is the same for each that follows another."""

    config: Config
    sockets: Sockets
    keeper_socket: Path
    metrics_directory: Path
    token: str
    listeners: Mapping[str, Sequence[str]]  # the addresses of each listener, as bound
    started_at: float  # Unix seconds at which snigate started
