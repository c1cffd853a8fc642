"""A worker: the data plane. Holds a replica of the store, accepts, and relays until it is told to drain.

Reads no certificate file. Accepts only when its replica has caught up with the keeper and the supervisor says so, which
is when all workers of its generation have. Told to drain, it takes what has arrived on its sockets, accepts no more,
and ends when its connections have. It ends at once when the supervisor is gone.
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
from proxy import open_files
from proxy.access_log import AccessLog
from proxy.acme_backend import AcmeBackend
from proxy.backend import Backend
from proxy.backend_tls import BackendTls
from proxy.channel import Channel
from proxy.connection_ids import connection_ids
from proxy.contexts import CertificateContexts
from proxy.entrance import Begin, Enter, behind_proxies, direct
from proxy.handshakes import DIALOGUES, Handshakes
from proxy.health import HealthChecks
from proxy.leg import shared_buffer
from proxy.limits import Limits
from proxy.listener import Listener
from proxy.listener_selector import selector_of
from proxy.mail import MailService, mail_services
from proxy.metrics import BackendMetrics, Metrics
from proxy.policy import Policy
from proxy.poller import Loop, Poller
from proxy.pool import Pool
from proxy.probes import Probes
from proxy.redirect import Redirect, RedirectService
from proxy.routing import RouteTable
from proxy.service import Service
from proxy.session import Session
from proxy.sockets import Share
from proxy.throttle import Throttle
from proxy.welcome import SERVER, WelcomeBackend

log = logging.getLogger("snigate.worker")

FIRST_RESOLVE = 3.0  # seconds that accepting waits for backends' names at most
FIRST_PROBE = 2.0  # seconds that it waits for what mail servers say of themselves
ACCOUNT_EVERY = 5.0  # seconds between accounts of open connections
COMPLAIN_EVERY = 60.0  # seconds between messages about proxies that send no PROXY header
LAG_EVERY = 0.5  # seconds between measurements of the loop's lag
ALIVE_EVERY = 1.0  # seconds between signs of life


@dataclass(frozen=True)
class Generation:
    """What the workers of one generation share; front contexts, made before the fork, share their ticket keys."""

    config: Config
    keeper_socket: Path
    metrics_directory: Path
    routes: Mapping[str, RouteTable]
    fronts: Mapping[Policy, SSL.Context]
    backend_tls: Mapping[str, BackendTls]  # by backend, where it has TLS


def run(generation: Generation, share: Share, number: int, channel: Channel) -> None:
    """Be the worker of this number, which accepts on `share`, until drained."""
    uvloop.run(_Worker(generation, share, number, channel).serve())


class _Worker:
    def __init__(self, generation: Generation, share: Share, number: int, channel: Channel) -> None:
        self._generation = generation
        self._config = generation.config
        self._share = share
        self._number = number
        self._channel = channel
        self._metrics = Metrics(number, generation.metrics_directory)
        self._replica = Replica(generation.config.certificates.order)
        self._contexts = CertificateContexts()
        self._replica.tell(self._contexts)
        self._background: set[asyncio.Task[None]] = set()
        self._services: list[Service | RedirectService] = []
        self._checks: set[asyncio.Task[None]] = set()
        self._complaints = Throttle(COMPLAIN_EVERY)
        self._ids = connection_ids()
        self._told = asyncio.Event()  # that there is something new in the two that follow
        self._may_accept = False
        self._deadline: float | None = None  # of the drain, in the loop's time; None: not told to drain

    async def serve(self) -> None:
        """Catch up, accept, serve, drain."""
        obeying = asyncio.create_task(self._obey())
        access_log = self._access_log()
        following = asyncio.create_task(self._replica.follow(self._generation.keeper_socket, "worker", self._number))
        self._services = await self._make_services(access_log)
        self._metrics.settle()
        await self._replica.ready.wait()
        listeners = [
            Listener(service.loop, service.name, sock, service.limits, self._entrance(listener, service))
            for listener, service in zip(self._config.listeners, self._services, strict=True)
            for sock in self._share[service.name]
        ]
        gc.collect()
        gc.freeze()
        self._background.add(asyncio.create_task(self._account()))
        self._background.add(asyncio.create_task(self._measure_lag()))
        self._background.add(asyncio.create_task(self._give_signs_of_life()))
        self._channel.say({"prepared": True})
        await self._told.wait()
        for listener in listeners:
            listener.start()
        self._channel.say({"ready": True})
        while self._deadline is None:
            self._told.clear()
            await self._told.wait()
        following.cancel()  # what is open needs no other certificates
        for check in self._checks:
            check.cancel()
        for listener in listeners:
            listener.stop()
        self._metrics.retire()
        await self._drained()
        if access_log is not None:
            access_log.flush()
        self._metrics.settle()
        self._metrics.write()
        for task in (obeying, *self._background):
            task.cancel()

    async def _obey(self) -> None:
        """Take in what the supervisor says. A worker that was not told to accept has nothing to drain: it ends."""
        async for message in self._channel.listen():
            if message.get("accept"):
                self._may_accept = True
            if "drain" in message:
                deadline = asyncio.get_running_loop().time() + message["drain"]
                self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
                if not self._may_accept:
                    break
            self._told.set()
        os._exit(0)

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
        limits = Limits(
            server.max_connections, server.max_connections_per_client, server.max_connection_rate_per_client
        )
        most = min(server.most_handshakes, open_files.most_handshakes())
        unfinished, dialogues = Handshakes(most), Handshakes(most, DIALOGUES)
        poller, buffer = Poller(asyncio.get_running_loop()), shared_buffer()
        mail = mail_services(self._config)
        await self._probe(poller, mail, {one.name: one for one in pools})
        acme = {one.name: AcmeBackend(one, backend_metrics[one.name]) for one in pools}
        return [
            self._redirect_service(listener, acme, access_log, limits)
            if listener.redirects
            else Service(
                loop=poller,
                name=listener.name,
                plain_http=not listener.is_mail,
                strict_sni=listener.strict_sni,
                preamble_timeout=self._config.preamble_timeout_of(listener),
                handshake_timeout=self._config.handshake_timeout_of(listener),
                idle_timeout=self._config.idle_timeout_of(listener),
                routes=self._generation.routes[listener.name],
                selector=selector_of(listener, self._replica),
                fronts=self._generation.fronts,
                contexts=self._contexts,
                backends=backends,
                backend_metrics=backend_metrics,
                metrics=self._metrics.listener(listener.name),
                access_log=access_log,
                limits=_limits_of(listener, limits),
                unfinished=unfinished,
                most_handshakes=listener.most_handshakes,
                dialogues=dialogues,
                buffer=buffer,
                ids=self._ids,
                complaints=self._complaints,
                mail=mail.get(listener.name),
            )
            for listener in self._config.listeners
        ]

    async def _probe(self, loop: Loop, mail: Mapping[str, MailService], pools: Mapping[str, Pool]) -> None:
        """Ask mail servers what they say before TLS, from now on, and wait for their first answers."""
        probes = [
            Probes(loop, listener.name, mail[listener.name], pools[listener.backend])
            for listener in self._config.listeners
            if listener.tls == "starttls" and listener.backend is not None
        ]
        self._checks.update(asyncio.create_task(one.keep()) for one in probes)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PROBE):
                await asyncio.gather(*(one.asked.wait() for one in probes))

    def _redirect_service(
        self, listener: ListenerConfig, acme: Mapping[str, AcmeBackend], access_log: AccessLog | None, limits: Limits
    ) -> RedirectService:
        return RedirectService(
            loop=asyncio.get_running_loop(),
            name=listener.name,
            port=listener.redirect_port,
            acme=acme[listener.acme_backend] if listener.acme_backend is not None else listener.acme_webroot,
            handshake_timeout=self._config.handshake_timeout_of(listener),
            metrics=self._metrics.listener(listener.name),
            access_log=access_log,
            limits=_limits_of(listener, limits),
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
        self._checks.add(asyncio.create_task(checks.keep(pool.servers, self._number)))
        return pool

    async def _drained(self) -> None:
        """Wait for the open connections' ends, until the deadline; cut what is left then."""
        loop = asyncio.get_running_loop()
        # Looking now and then costs the sessions nothing, where telling would be work for each of them.
        while any(service.sessions for service in self._services) and self._remaining(loop) > 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for service in self._services:
            for session in _sessions(service):
                session.cut()
        while any(service.sessions for service in self._services):  # noqa: ASYNC110 - a task ends a bit later
            await asyncio.sleep(0)

    def _remaining(self, loop: asyncio.AbstractEventLoop) -> float:
        """Seconds until the deadline, which may have been moved up."""
        return self._deadline - loop.time() if self._deadline is not None else 0.0

    async def _account(self) -> None:
        """Count what open connections have relayed so far, now and again."""
        while True:
            await asyncio.sleep(ACCOUNT_EVERY)
            for service in self._services:
                for number, session in enumerate(_sessions(service)):
                    session.account_bytes()
                    if number % 1000 == 999:
                        await asyncio.sleep(0)
            self._metrics.settle()
            self._metrics.write()

    async def _give_signs_of_life(self) -> None:
        """Let the supervisor know that this loop turns."""
        while True:
            self._channel.say({"alive": True})
            await asyncio.sleep(ALIVE_EVERY)

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


def _limits_of(listener: ListenerConfig, worker: Limits) -> Limits:
    return worker.for_listener(
        listener.max_connections, listener.max_connections_per_client, listener.max_connection_rate_per_client
    )
