"""The control process: metrics, health and API, in one asyncio loop beside the traffic.

It follows the keeper for certificates, listens to the supervisor for the processes, and answers on sockets that the
supervisor bound. If it dies, traffic does not notice, and the next one listens on the same sockets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from starlette.types import ASGIApp

from admin.app import admin_app, local_app, metrics_app
from admin.guard import own_names
from admin.http_server import Server
from admin.surroundings import Surroundings
from admin.view import View
from certstore.replica import Replica
from config.model import Config
from proxy.channel import Channel

log = logging.getLogger("snigate.control")


def run(surroundings: Surroundings, channel: Channel) -> None:
    """Be the control process until the supervisor is gone."""
    asyncio.run(_serve(surroundings, channel))


async def _serve(given: Surroundings, channel: Channel) -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings are about what strangers send
    replica = Replica(given.config.certificates.order)
    view = View(given.config, replica, given.listeners, given.sockets.addresses, given.started_at)
    tasks = [asyncio.create_task(replica.follow(given.keeper_socket, "control", 0))]
    for sock, app in _apps(given, view):
        server = Server(app)
        await server.listen(sock)
        tasks.append(asyncio.create_task(server.keep_time()))
    for task in tasks:
        task.add_done_callback(_end_if_failed)
    channel.say({"ready": True})
    async for message in channel.listen():
        view.hear(message)
    os._exit(0)  # the supervisor is gone, or has no more use for this process


def _apps(given: Surroundings, view: View) -> list[tuple[socket.socket, ASGIApp]]:
    sockets, directory = given.sockets, given.metrics_directory
    names = own_names(given.config.admin.listen.host)
    apps = [
        (sockets.admin, admin_app(view, directory, names, given.token, where_the_token_is(given.config))),
        (sockets.local, local_app(view, directory)),
    ]
    if sockets.metrics is not None:
        apps.append((sockets.metrics, metrics_app(view, directory)))
    return apps


def where_the_token_is(config: Config) -> str:
    """A phrase for those who lack the token; it does not give away where on this machine things are."""
    file, state = config.admin.token_file, config.server.state_directory
    if file.is_relative_to(state):
        return f'the file "{file.relative_to(state)}" in the state directory'
    return "the file that admin.token_file names"


def _end_if_failed(task: asyncio.Task[None]) -> None:
    """A part that failed ends the process, loudly; the supervisor starts the next one."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the control process failed", exc_info=error)
        logging.shutdown()
        os._exit(1)
