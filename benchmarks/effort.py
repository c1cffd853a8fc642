"""How much of each load is made: enough for a stable figure, or little, to see that everything works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Sizes of the loads."""

    handshakes: int = 1500
    in_flight: int = 32
    transfers: int = 8  # of 100 MiB
    transfers_in_flight: int = 4
    requests: int = 60_000  # so many that the handshakes before them are about 1 % of the CPU
    request_connections: int = 32
    idle: int = 2000
    idle_measured: int = 2000  # those whose memory is measured
    swap_certificates: int = 10_000
    swap_before: float = 3.0  # seconds of load before a swap
    swap_after: float = 2.0  # seconds from the swap that count as "during" at least
    swap_patience: float = 60.0
    swap_rate: float = 250.0  # handshakes a second
    start_patience: float = 120.0  # seconds
    quiet: float = 0.5  # seconds with next to no CPU used, after which a start is over
