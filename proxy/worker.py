"""A worker: the data plane. Holds a replica of the store, accepts, and relays until it is told to drain.

Reads no certificate file. Accepts only when its replica has caught up with the keeper. Ends when its connections have
(after a drain), or at once when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop
from OpenSSL import SSL

from certstore.replica import Replica
from config.model import WELCOME, BackendConfig, Config, ListenerConfig
from proxy.access_log import AccessLog
from proxy.acme_backend import AcmeBackend
from proxy.backend import Backend
from proxy.backend_tls import BackendTls
from proxy.channel import Channel
from proxy.connection_ids import connection_ids
from proxy.contexts import CertificateContexts
from proxy.entrance import Begin, Enter, behind_proxies, direct
from proxy.health import HealthChecks
from proxy.limits import Limits
from proxy.listener import Listener
from proxy.metrics import BackendMetrics, Metrics
from proxy.policy import Policy
from proxy.pool import Pool
from proxy.redirect import Redirect, RedirectService
from proxy.relay import shared_buffer
from proxy.routing import RouteTable
from proxy.service import Service
from proxy.session import Session
from proxy.sockets import Slot
from proxy.throttle import Throttle
from proxy.welcome import SERVER, WelcomeBackend

log = logging.getLogger("snigate.worker")

FIRST_RESOLVE = 3.0  # seconds that accepting waits for backends' names at most
ACCOUNT_EVERY = 5.0  # seconds between accounts of open connections
COMPLAIN_EVERY = 60.0  # seconds between messages about proxies that send no PROXY header
LAG_EVERY = 0.5  # seconds between measurements of the loop's lag


@dataclass(frozen=True)
class Generation:
    """What the workers of one generation share; front contexts, made before the fork, share their ticket keys."""

    config: Config
    keeper_socket: Path
    metrics_directory: Path
    routes: Mapping[str, RouteTable]
    fronts: Mapping[Policy, SSL.Context]
    backend_tls: Mapping[str, BackendTls]  # by backend, where it has TLS


def run(generation: Generation, slot: Slot, channel: Channel) -> None:
    """Be the worker of `slot` until drained."""
    uvloop.run(_Worker(generation, slot, channel).serve())


class _Worker:
    def __init__(self, generation: Generation, slot: Slot, channel: Channel) -> None:
        self._generation = generation
        self._config = generation.config
        self._slot = slot
        self._channel = channel
        self._metrics = Metrics(slot.number, generation.metrics_directory)
        self._replica = Replica(generation.config.certificates.order)
        self._contexts = CertificateContexts()
        self._replica.tell(self._contexts)
        self._background: set[asyncio.Task[None]] = set()
        self._services: list[Service | RedirectService] = []
        self._checks: set[asyncio.Task[None]] = set()
        self._complaints = Throttle(COMPLAIN_EVERY)
        self._ids = connection_ids()

    async def serve(self) -> None:
        """Catch up, accept, serve, drain."""
        drain = asyncio.create_task(self._told_to_drain())
        access_log = self._access_log()
        self._background.add(
            asyncio.create_task(self._replica.follow(self._generation.keeper_socket, "worker", self._slot.number))
        )
        self._services = await self._make_services(access_log)
        await self._replica.ready.wait()
        listeners = [
            Listener(service.loop, service.name, sock, service.limits, self._entrance(listener, service))
            for listener, service in zip(self._config.listeners, self._services, strict=True)
            for sock in self._slot.sockets[service.name]
        ]
        gc.collect()
        gc.freeze()
        for listener in listeners:
            listener.start()
        self._background.add(asyncio.create_task(self._account()))
        self._background.add(asyncio.create_task(self._measure_lag()))
        self._channel.say({"ready": True})
        await drain
        for check in self._checks:
            check.cancel()
        for listener in listeners:
            listener.stop()
        await self._drained()
        if access_log is not None:
            access_log.flush()
        for task in self._background:
            task.cancel()

    async def _told_to_drain(self) -> None:
        async for message in self._channel.listen():
            if message.get("drain"):
                return
        os._exit(0)  # the supervisor is gone

    def _access_log(self) -> AccessLog | None:
        said = self._config.log
        return AccessLog(asyncio.get_running_loop(), sys.stderr.fileno(), said.format) if said.access else None

    def _entrance(self, listener: ListenerConfig, service: Service | RedirectService) -> Enter:
        begin: Begin = partial(Session, service) if isinstance(service, Service) else partial(Redirect, service)
        if not listener.accept_proxy_from:
            return direct(service.limits, service.metrics, begin)
        return behind_proxies(listener.accept_proxy_from, service.limits, service.metrics, begin)

    async def _make_services(self, access_log: AccessLog | None) -> list[Service | RedirectService]:
        server = self._config.server
        backend_metrics = {
            name: self._metrics.backend(name, map(str, one.servers)) for name, one in self._config.backends.items()
        }
        backend_metrics[WELCOME] = self._metrics.backend(WELCOME, [SERVER])
        pools = [self._make_pool(one, backend_metrics[name]) for name, one in self._config.backends.items()]
        backends: dict[str, Backend] = {**{one.name: one for one in pools}, WELCOME: WelcomeBackend()}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_RESOLVE):
                await asyncio.gather(*(one.resolver.first() for one in pools))
        limits = Limits(server.max_connections, server.max_connections_per_client)
        buffer = shared_buffer()
        acme = {one.name: AcmeBackend(one, backend_metrics[one.name]) for one in pools}
        return [
            self._redirect_service(listener, acme, access_log, limits)
            if listener.redirects
            else Service(
                loop=asyncio.get_running_loop(),
                name=listener.name,
                plain_http=not listener.is_mail,
                strict_sni=listener.strict_sni,
                handshake_timeout=server.handshake_timeout,
                idle_timeout=self._config.idle_timeout_of(listener),
                routes=self._generation.routes[listener.name],
                selector=self._replica.selector,
                fronts=self._generation.fronts,
                contexts=self._contexts,
                backends=backends,
                backend_metrics=backend_metrics,
                metrics=self._metrics.listener(listener.name),
                access_log=access_log,
                limits=limits,
                buffer=buffer,
                ids=self._ids,
                complaints=self._complaints,
            )
            for listener in self._config.listeners
        ]

    def _redirect_service(
        self, listener: ListenerConfig, acme: Mapping[str, AcmeBackend], access_log: AccessLog | None, limits: Limits
    ) -> RedirectService:
        return RedirectService(
            loop=asyncio.get_running_loop(),
            name=listener.name,
            port=listener.redirect_port,
            acme=acme[listener.acme_backend] if listener.acme_backend is not None else listener.acme_webroot,
            handshake_timeout=self._config.server.handshake_timeout,
            metrics=self._metrics.listener(listener.name),
            access_log=access_log,
            limits=limits,
            ids=self._ids,
            complaints=self._complaints,
        )

    def _make_pool(self, config: BackendConfig, metrics: BackendMetrics) -> Pool:
        """One backend, its names kept resolved and its servers checked from now on."""
        timeout = self._config.server.backend_connect_timeout
        tls = self._generation.backend_tls.get(config.name)
        pool = Pool(config, timeout, tls, metrics)
        self._background.add(asyncio.create_task(pool.resolver.keep()))
        checks = HealthChecks(config, tls, timeout)
        self._checks.add(asyncio.create_task(checks.keep(pool.servers, self._slot.number)))
        return pool

    async def _drained(self) -> None:
        """Wait for the open connections' ends, at most `drain` seconds; cut what is left then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.server.drain
        # Looking now and then costs the sessions nothing, where telling would be work for each of them.
        while any(service.sessions for service in self._services) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for service in self._services:
            for session in _sessions(service):
                session.cut()
        while any(service.sessions for service in self._services):  # noqa: ASYNC110 - a task ends a bit later
            await asyncio.sleep(0)

    async def _account(self) -> None:
        """Count what open connections have relayed so far, now and again."""
        while True:
            await asyncio.sleep(ACCOUNT_EVERY)
            for service in self._services:
                for number, session in enumerate(_sessions(service)):
                    session.account_bytes()
                    if number % 1000 == 999:
                        await asyncio.sleep(0)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            self._metrics.event_loop_lag.set(max(0.0, loop.time() - due))
            with contextlib.suppress(OSError):  # none is left to look with: then the last number is near the truth
                self._metrics.open_fds.set(len(os.listdir("/proc/self/fd")))  # noqa: PTH208


def _sessions(service: Service | RedirectService) -> list[Session | Redirect]:
    return list(service.sessions)
