"""How much of each load is made: enough for a stable figure, or little, to see that everything works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Sizes of the loads."""

    handshakes: int = 1500
    in_flight: int = 32
    transfers: int = 4  # of 100 MiB, at the same time
    requests: int = 20_000
    request_connections: int = 32
    idle: int = 2000
    idle_measured: int = 1000  # those whose memory is measured
    swap_seconds: float = 8.0
    start_patience: float = 120.0
