"""What all sessions of one listener in one worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from OpenSSL import SSL

from certstore.selector import Selector
from proxy.access_log import AccessLog
from proxy.backend import Backend
from proxy.contexts import CertificateContexts
from proxy.limits import Limits
from proxy.metrics import BackendMetrics, ListenerMetrics
from proxy.policy import Policy
from proxy.routing import RouteTable
from proxy.throttle import Throttle

if TYPE_CHECKING:
    from proxy.session import Session


@dataclass(slots=True)
class Service:
    """One listener's part of a worker. Times are seconds."""

    loop: asyncio.AbstractEventLoop
    name: str
    plain_http: bool  # answer plain HTTP in plain HTTP
    strict_sni: bool
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
    buffer: memoryview
    ids: Iterator[str]
    complaints: Throttle
    sessions: set[Session] = field(default_factory=set)
