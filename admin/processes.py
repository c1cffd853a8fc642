"""What the processes do, from their first moment: say who they are, give up what only root may, and begin.

Each function is the `main` of a process of one role. The keeper may have to read what only root can.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Set

from admin import logs
from admin.loop_trouble import LoopTrouble
from admin.settings import certificate_settings
from admin.surroundings import Surroundings
from admin.troubles import unusable
from certstore.catalogue import Snapshot
from certstore.certified_key import CertifiedKey
from certstore.index import Index
from certstore.keeper import Keeper
from certstore.names import wildcard_of
from certstore.ranking import Order
from certstore.selector import Selector
from config.model import Config
from proxy import worker
from proxy.channel import Channel, Message
from proxy.privileges import KEEPERS, User, confine
from proxy.sockets import Share

log = logging.getLogger("snigate.serve")


def work(generation: worker.Generation, share: Share, user: User | None, number: int, channel: Channel) -> None:
    """Be a worker."""
    _begin(f"worker {number}", generation.config, user)
    worker.run(generation, share, number, channel)


def control(surroundings: Surroundings, user: User | None, _: int, channel: Channel) -> None:
    """Be the control process."""
    from admin import control  # the HTTP side, which no other process needs; the user may not be able to read it

    _begin("control", surroundings.config, user)
    control.run(surroundings, channel)


def keep(config: Config, listening: socket.socket, user: User | None, _: int, channel: Channel) -> None:
    """Be the keeper."""
    _begin("keeper", config, user, KEEPERS)
    asyncio.run(_keep_until_alone(config, listening, channel))


def _begin(name: str, config: Config, user: User | None, keeping: Set[int] = frozenset()) -> None:
    logs.configure(config.log)
    logs.name_process(name)
    confine(user, keeping)


async def _keep_until_alone(config: Config, listening: socket.socket, channel: Channel) -> None:
    """Be the keeper until the supervisor is gone."""
    asyncio.get_running_loop().set_exception_handler(LoopTrouble())
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
    name, default = snapshot.default_name, _default(snapshot, order)
    return {
        "ready": True,
        "certificates": len(snapshot.certificates),
        "problems": unusable(one.reason for one in snapshot.problems),
        "waiting": len(snapshot.waiting),
        "default": default.fingerprint if default is not None else None,
        "default_names": default.names if default is not None else (),
        "uncovered": name if name is not None and not _covers(default, name) else None,
    }


def _covers(certificate: CertifiedKey | None, name: str) -> bool:
    return certificate is not None and not {name, wildcard_of(name)}.isdisjoint(certificate.names)


def _default(snapshot: Snapshot, order: Order) -> CertifiedKey | None:
    """The certificate that serves where no other is for the name."""
    name, index = snapshot.default_name, Index()
    keys = {name, wildcard_of(name)} if name is not None else set[str | None]()
    for _ in index.apply(one for one in snapshot.certificates.values() if not keys.isdisjoint(one.names)):
        pass
    selector = Selector(index, order)
    selector.set_default(snapshot.default_name, snapshot.made)
    selection = selector.select(None)
    return selection.certificate if selection is not None else None
