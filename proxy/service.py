"""What all sessions of one listener in one worker share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from OpenSSL import SSL

from certstore.selector import Selection, Selector
from proxy.access_log import AccessLog
from proxy.backend import Backend
from proxy.client_hello import ClientHello
from proxy.contexts import CertificateContexts, ContextError
from proxy.deadlines import Deadlines
from proxy.errors import HandshakeError
from proxy.handshakes import HandshakeDeadlines, Handshakes
from proxy.limits import Limits
from proxy.mail import MailService
from proxy.metrics import BackendMetrics, ListenerMetrics
from proxy.policy import Policy
from proxy.poller import Poller
from proxy.relay import Patience
from proxy.routing import RouteTable
from proxy.throttle import Throttle

if TYPE_CHECKING:
    from proxy.session import Session

GLANCE = 2.0  # seconds after which it is seen whether a mail client still waits for its server

log = logging.getLogger("snigate.session")


@dataclass(slots=True)
class Service:
    """One listener's part of a worker. Times are seconds."""

    loop: Poller
    name: str
    plain_http: bool  # answer plain HTTP in plain HTTP
    strict_sni: bool
    preamble_timeout: float
    handshake_timeout: float
    idle_timeout: float
    routes: RouteTable
    selector: Selector
    fronts: Mapping[Policy, SSL.Context]
    contexts: CertificateContexts
    backends: Mapping[str, Backend]
    backend_metrics: Mapping[str, BackendMetrics]
    metrics: ListenerMetrics
    access_log: AccessLog | None
    limits: Limits
    unfinished: Handshakes  # the worker's, of all its listeners
    dialogues: Handshakes  # the same for mail dialogues before TLS
    buffer: memoryview
    ids: Iterator[str]
    complaints: Throttle
    mail: MailService | None = None
    most_handshakes: int | None = None  # of the worker's unfinished ones, that may be this listener's
    sessions: set[Session] = field(default_factory=set)
    prefaces: HandshakeDeadlines = field(init=False)
    handshakes: HandshakeDeadlines = field(init=False)
    glances: Deadlines = field(init=False)
    patience: Patience = field(init=False)
    speaks_first: bool = field(init=False)  # clients are greeted, and begin TLS by their protocol's STARTTLS

    def __post_init__(self) -> None:
        self.prefaces = self.dialogues.deadlines(self.loop, self.preamble_timeout, self.most_handshakes)
        self.handshakes = self.unfinished.deadlines(self.loop, self.handshake_timeout, self.most_handshakes)
        self.glances = Deadlines(self.loop, GLANCE)
        self.patience = Patience(self.loop, self.idle_timeout)
        self.speaks_first = self.mail is not None and self.mail.starttls

    def choose(self, hello: ClientHello, policy: Policy, local: str | None) -> tuple[Selection, SSL.Context]:
        """The best certificate that OpenSSL takes, and its context; one that it refuses makes way for the next.

        `local`: the address that a client without SNI connected to. Raises HandshakeError.
        """
        while True:
            selection = self.selector.select(hello.server_name, int(hello.key_types), local, strict=self.strict_sni)
            if selection is None:
                raise HandshakeError("unrecognized_name" if self.strict_sni else "no_certificate")
            try:
                return selection, self.contexts.get(selection.certificate, policy)
            except ContextError as error:
                paths = ", ".join(selection.certificate.paths)
                log.error("%s; the next best certificate is served, replace %s", error, paths)
                self.selector.disregard(selection.certificate.fingerprint)
