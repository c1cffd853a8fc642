"""A listener's service inside the test's own event loop: real sessions without processes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from certstore.index import Index
from certstore.ranking import Level
from certstore.selector import Selector
from config.addresses import TcpAddress
from config.model import WELCOME, ListenerConfig
from proxy.acme_backend import AcmeBackend
from proxy.backend import Backend
from proxy.connection_ids import connection_ids
from proxy.contexts import CertificateContexts, front_context
from proxy.errors import HANDSHAKE_FAILURES, Outcome
from proxy.handshakes import Handshakes
from proxy.leg import shared_buffer
from proxy.limits import Limits
from proxy.mail import MailService
from proxy.metrics import VERSIONS, BackendMetrics, ListenerMetrics
from proxy.poller import Poller
from proxy.redirect import RedirectService
from proxy.routing import RouteTable
from proxy.service import Service
from proxy.tallies import Count, Number
from proxy.throttle import Throttle
from proxy.welcome import WelcomeBackend
from tests.support.engine import certified_key
from tests.support.pki import Pair

NAME = "www.example.com"


def listener_metrics() -> ListenerMetrics:
    """Metrics that only the test sees."""
    registry = CollectorRegistry()

    def counter(name: str) -> Counter:
        return Counter(name, "For a test.", registry=registry)

    return ListenerMetrics(
        active=Gauge("active", "For a test.", registry=registry),
        duration=Histogram("duration", "For a test.", registry=registry),
        to_backend=counter("to_backend"),
        to_client=counter("to_client"),
        outcomes={outcome: counter(f"outcome_{outcome.value}") for outcome in Outcome},
        failures={reason: counter(f"failure_{reason}") for reason in HANDSHAKE_FAILURES},
        handshakes={
            (version, resumed): counter(f"handshake_{version.replace('.', '_')}_{resumed}")
            for version in VERSIONS
            for resumed in (False, True)
        },
        selections={level: Count(counter(f"level_{level.value}")) for level in Level},
        touch=lambda: None,
    )


def backend_metrics() -> BackendMetrics:
    """The same for a backend."""
    registry = CollectorRegistry()
    return BackendMetrics(
        Histogram("duration", "For a test.", registry=registry),
        Counter("failures", "For a test.", registry=registry),
        defaultdict(lambda: Gauge("up", "For a test.", registry=None)),
        lambda: None,
    )


def service(
    pair: Pair,
    *,
    handshake_timeout: float,
    idle_timeout: float,
    preamble_timeout: float = 5,
    backend: Backend | None = None,
    strict: bool = False,
    mail: MailService | None = None,
    unfinished: Handshakes | None = None,
    dialogues: Handshakes | None = None,
) -> Service:
    """A service in the running loop that serves `pair` as NAME and relays to `backend`, or to the welcome page."""
    index = Index()
    for _ in index.apply([certified_key(pair, names=(NAME,))]):
        pass
    chosen = backend or WelcomeBackend()
    listener = ListenerConfig(
        name="web", bind=(TcpAddress("127.0.0.1", 0),), backend=WELCOME if backend is None else backend.name
    )
    routes = RouteTable(listener, "intermediate")
    backends: Mapping[str, Backend] = {chosen.name: chosen}
    return Service(
        loop=Poller(asyncio.get_running_loop()),
        name="web",
        plain_http=True,
        strict_sni=strict,
        preamble_timeout=preamble_timeout,
        handshake_timeout=handshake_timeout,
        idle_timeout=idle_timeout,
        routes=routes,
        selector=Selector(index),
        fronts={policy: front_context(policy) for policy in routes.policies},
        contexts=CertificateContexts(),
        backends=backends,
        backend_metrics={chosen.name: backend_metrics()},
        metrics=listener_metrics(),
        access_log=None,
        limits=Limits(1000, None),
        unfinished=unfinished or Handshakes(1000),
        dialogues=dialogues or Handshakes(1000),
        buffer=shared_buffer(),
        ids=connection_ids(),
        complaints=Throttle(60),
        mail=mail,
    )


def redirect_service(*, handshake_timeout: float, acme: Path | AcmeBackend | None = None) -> RedirectService:
    """A service of plain HTTP in the running loop."""
    return RedirectService(
        loop=asyncio.get_running_loop(),
        name="plain",
        port=443,
        acme=acme,
        handshake_timeout=handshake_timeout,
        metrics=listener_metrics(),
        access_log=None,
        limits=Limits(1000, None),
        ids=connection_ids(),
        complaints=Throttle(60),
    )


def value(tally: Count | Number) -> float:
    """What was counted so far."""
    tally.write()
    return sum(
        sample.value for one in tally.metric.collect() for sample in one.samples if not sample.name.endswith("_created")
    )
