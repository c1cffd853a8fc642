"""What is known of one connection, for the log and the counters."""

from __future__ import annotations

from dataclasses import dataclass

from certstore.selector import Selection
from proxy.backend import Endpoint, Established
from proxy.policy import Policy
from proxy.tls_engine import TlsEngine


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

    def describe_plainly(self, local: Endpoint) -> Established:
        """What there is to say where no TLS ends here. `local`: what the client connected to."""
        return Established(self.client, local, self.listener, self.server_name, id=self.id)

    def describe(self, local: Endpoint, engine: TlsEngine, selection: Selection, policy: Policy) -> Established:
        """What there is to say where TLS does, and its handshake is done."""
        return Established(
            client=self.client,
            local=local,
            listener=self.listener,
            server_name=self.server_name,
            negotiated=engine.negotiated(),
            fingerprint=selection.certificate.fingerprint,
            matched=selection.matched,
            level=selection.level,
            leaf=selection.certificate.leaf,
            id=self.id,
            client_name=engine.peer_name() if policy.client_auth is not None else None,
        )
