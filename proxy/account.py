"""What is known of one connection, for the log and the counters."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.backend import Endpoint, Established


@dataclass(slots=True)
class Account:
    """Filled in as the connection goes on; what never came to be stays as it is here. Times are seconds."""

    listener: str
    client: Endpoint
    server_name: str | None = None
    established: Established | None = None
    backend: str = ""
    server: str = ""  # the one of the backend that was connected to
    to_backend: int = 0
    to_client: int = 0
    reason: str = ""  # why the handshake failed (a key of HANDSHAKE_FAILURES), or the backend in words
    id: str = ""  # the same in PROXY headers
    route: str = ""  # the first host of the route; "-" for what the listener does itself
    ja4: str = ""
    handshake: float | None = None  # from accept to the handshake's end
    connect: float | None = None  # from the first dial to a connected backend
