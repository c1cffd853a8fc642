"""`snigate serve`: from a configuration to running processes. Here the packages are wired together."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from collections.abc import Callable
from functools import partial

from admin import access_token, logs
from admin.panel import Ready
from admin.settings import certificate_settings
from admin.state import StateDirectory
from admin.surroundings import Sockets, Surroundings
from admin.troubles import unusable
from certstore.catalogue import Snapshot
from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.keeper import Keeper
from certstore.ranking import Order
from certstore.selector import Selector
from config.model import Config
from proxy import worker
from proxy.backend_tls import backend_tls
from proxy.channel import Channel, Message
from proxy.contexts import front_context
from proxy.cpus import usable_cpus
from proxy.metrics import empty_directory
from proxy.routing import route_tables
from proxy.sockets import Slot, bind_slots, bind_tcp, bind_unix, bound_addresses
from proxy.supervisor import ChildSpec, Supervisor, slot_sockets

log = logging.getLogger("snigate.serve")


def serve(config: Config, on_ready: Callable[[Ready], None]) -> int:
    """Run until stopped; returns the exit status.

    `on_ready` is called once a worker accepts. Raises StateError, BindError, ClientAuthError and ContextError before
    anything has started.
    """
    started_at = time.time()
    state = StateDirectory(config.server.state_directory)
    token = access_token.ensure(config.admin.token_file)
    slots = bind_slots(config, config.server.workers or usable_cpus())
    keeper_socket = bind_unix(state.keeper_socket)
    control_sockets = Sockets(
        admin=bind_tcp("admin.listen", config.admin.listen),
        metrics=bind_tcp("metrics.listen", config.metrics.listen) if config.metrics else None,
        local=bind_unix(state.control_socket),
    )
    routes = route_tables(config)
    policies = {policy for table in routes.values() for policy in table.policies}
    generation = worker.Generation(
        config=config,
        keeper_socket=state.keeper_socket,
        metrics_directory=empty_directory(state.path),
        routes=routes,
        fronts={policy: front_context(policy) for policy in policies},
        backend_tls=backend_tls(config),
    )
    _raise_file_limit()
    addresses = bound_addresses(slots[0])
    surroundings = Surroundings(
        config=config,
        sockets=control_sockets,
        keeper_socket=state.keeper_socket,
        metrics_directory=generation.metrics_directory,
        token=token,
        listeners=addresses,
        started_at=started_at,
    )
    specs = [
        ChildSpec("keeper", 0, partial(_keep, config, keeper_socket), (keeper_socket,)),
        ChildSpec("control", 0, partial(_control, surroundings), control_sockets.every),
        *(
            ChildSpec("worker", one.number, partial(_work, generation, one), tuple(slot_sockets([one])))
            for one in slots
        ),
    ]
    supervisor = Supervisor(
        specs,
        [keeper_socket, *control_sockets.every, *slot_sockets(slots)],
        config.server.drain,
        lambda found: on_ready(_ready(addresses, control_sockets.addresses, found)),
        lambda spec: logs.name_process(spec.name),
    )
    return supervisor.run()


def _work(generation: worker.Generation, slot: Slot, channel: Channel) -> None:
    worker.run(generation, slot, channel)


def _control(surroundings: Surroundings, channel: Channel) -> None:
    from admin import control  # the HTTP side, which no other process needs

    control.run(surroundings, channel)


def _keep(config: Config, listening: socket.socket, channel: Channel) -> None:
    asyncio.run(_keep_until_alone(config, listening, channel))


async def _keep_until_alone(config: Config, listening: socket.socket, channel: Channel) -> None:
    """Be the keeper until the supervisor is gone."""
    settings = certificate_settings(config)
    order = config.certificates.order
    keeper = Keeper(settings, listening, config.certificates.rescan, lambda found: channel.say(_summary(found, order)))
    keeping = asyncio.create_task(keeper.run())
    keeping.add_done_callback(_end_if_failed)
    async for _ in channel.listen():
        pass
    os._exit(0)


def _end_if_failed(task: asyncio.Task[None]) -> None:
    """A keeper that failed ends its process, loudly; the supervisor starts the next one."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the keeper failed", exc_info=error)
        logging.shutdown()
        os._exit(1)


def _summary(snapshot: Snapshot, order: Order) -> Message:
    """What the start panel says about certificates."""
    default = _default(snapshot, order)
    return {
        "ready": True,
        "certificates": len(snapshot.certificates),
        "problems": unusable(one.reason for one in snapshot.problems),
        "waiting": len(snapshot.waiting),
        "default": default.fingerprint if default is not None else None,
        "default_names": default.names if default is not None else (),
    }


def _default(snapshot: Snapshot, order: Order) -> CertifiedKey | None:
    """The certificate that serves where no other is for the name."""
    index = Index()
    for _ in index.apply(snapshot.certificates.values()):
        pass
    selector = Selector(index, order)
    selector.set_default(snapshot.default_name, snapshot.made)
    selection = selector.select(None)
    return selection.certificate if selection is not None else None


def _ready(listeners: dict[str, list[str]], admin: dict[str, str], found: Message) -> Ready:
    return Ready(
        listeners=listeners,
        admin=admin,
        certificates=found["certificates"],
        problems=found["problems"],
        waiting=found["waiting"],
        default=found["default"],
        default_names=found["default_names"],
    )


def _raise_file_limit() -> None:
    """Use as many open files as the system lets this process have: each connection needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
