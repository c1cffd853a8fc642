"""The control process: metrics, health and API, in one asyncio loop beside the traffic.

It follows the keeper for certificates, listens to the supervisor for the processes, and answers on sockets that the
supervisor bound. If it dies, traffic does not notice, and the next one listens on the same sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Coroutine
from typing import Any

from admin.app import admin_app, local_app, metrics_app
from admin.guard import own_names
from admin.http_server import PatientProtocol, Server
from admin.loop_trouble import LoopTrouble
from admin.reloads import Reloads
from admin.surroundings import Surroundings
from admin.view import View
from certstore.replica import Replica
from config.model import Config
from proxy.channel import Channel

log = logging.getLogger("snigate.control")


CATCH_UP = 1.0  # seconds that answering waits for the keeper at most


def run(surroundings: Surroundings, channel: Channel) -> None:
    """Be the control process until the supervisor is gone, or has no more use for it."""
    asyncio.run(_Control(surroundings, channel).serve())


class _Control:
    def __init__(self, given: Surroundings, channel: Channel) -> None:
        self._given = given
        self._channel = channel
        self._reloads = Reloads(channel)
        self._replica = Replica(given.config.certificates.order)
        self._view = View(given.config, self._replica, given.listeners, given.sockets.addresses, given.started_at)
        self._told = asyncio.Event()  # how the processes are
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """Know what is to be told first, then answer: whoever asks a process just started must not be misled."""
        asyncio.get_running_loop().set_exception_handler(LoopTrouble())
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings are about what strangers send
        self._run(self._replica.follow(self._given.keeper_socket, "control", 0))
        self._run(self._listen())
        await self._told.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP):
                await self._replica.ready.wait()
        servers = self._servers()
        for server, sock in servers:
            await server.listen(sock)
            self._run(server.keep_time())
        self._channel.say({"ready": True})
        await self._ending.wait()
        await asyncio.gather(*(server.end() for server, _ in servers))
        os._exit(0)

    async def _listen(self) -> None:
        """Take in what the supervisor says; even at its end, this process may still wait for an outcome."""
        async for message in self._channel.listen():
            if "reloaded" in message:
                self._reloads.hear(message["reloaded"])
            elif "end" in message:
                self._ending.set()
            else:
                self._view.hear(message)
                self._told.set()
        os._exit(0)  # the supervisor is gone

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_end_if_failed)
        self._tasks.append(task)

    def _servers(self) -> list[tuple[Server, socket.socket]]:
        given, view = self._given, self._view
        sockets, directory = given.sockets, given.metrics_directory
        names = own_names(given.config.admin.listen.host)
        admin = admin_app(view, directory, names, given.token, where_the_token_is(given.config))
        servers = [
            (Server(admin), sockets.admin),
            (Server(local_app(view, directory, self._reloads), PatientProtocol), sockets.local),
        ]
        if sockets.metrics is not None:
            servers.append((Server(metrics_app(view, directory)), sockets.metrics))
        return servers


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
