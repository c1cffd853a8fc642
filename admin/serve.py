"""`snigate serve`: from a configuration to running processes. Here the packages are wired together."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from admin.console.sessions import link_code
from admin.panel import Ready
from admin.plan import Planner, ServerPlan, warn_of
from admin.state import StateDirectory, StateError
from certstore.remedy import remedy
from config.model import Config
from proxy.channel import Message
from proxy.inherited import Inherited
from proxy.metrics import empty_directory, remove_gauges
from proxy.open_files import most_handshakes, use_all_allowed
from proxy.privileges import supervise_only, user_to_become
from proxy.service_manager import ServiceManager
from proxy.supervisor import Supervisor

log = logging.getLogger("snigate.serve")


def serve(config: Config, on_ready: Callable[[Ready], None], reread: Callable[[], Config]) -> int:
    """Run until stopped; returns the exit status.

    `on_ready` is called once a worker accepts; `reread` reads the configuration again, for a reload. Raises UserError,
    StateError, BindError and PlanError before anything has started.
    """
    started_at = time.time()
    user = user_to_become(config.server.user)
    supervise_only(user)
    state = StateDirectory(config.server.state_directory)
    metrics_directory = _metrics_directory(state)
    if user is not None:
        state.let_through(user)
        user.own(metrics_directory)
    inherited = Inherited()
    warn_of(inherited, config)
    planner = Planner(state, user, metrics_directory, reread, started_at, inherited)
    plan = planner.plan(config)
    _use_open_files(config)
    supervisor = Supervisor(
        plan,
        planner.next,
        lambda found: on_ready(_ready(plan, found)),
        partial(remove_gauges, metrics_directory),
        manager=ServiceManager(),
    )
    gc.collect()
    gc.freeze()  # what is here now stays; no process that is forked has to look at it again
    return supervisor.run()


def _metrics_directory(state: StateDirectory) -> Path:
    try:
        return empty_directory(state.path)
    except OSError as error:
        advice = remedy(error, "remove it, and let snigate make it")
        raise StateError(f"{error.filename} cannot be made anew ({error.strerror}); {advice}") from error


def _ready(plan: ServerPlan, found: Message) -> Ready:
    return Ready(
        listeners=plan.surroundings.listeners,
        admin=plan.surroundings.sockets.addresses,
        certificates=found["certificates"],
        problems=found["problems"],
        waiting=found["waiting"],
        default=found["default"],
        default_names=found["default_names"],
        uncovered=found["uncovered"],
        code=link_code(plan.surroundings.token, plan.surroundings.started_at),
    )


def _use_open_files(config: Config) -> None:
    """Use as many as the system lets this process have, and say where these are few."""
    files = use_all_allowed()
    if (handshakes := most_handshakes()) < config.server.most_handshakes:
        log.warning(
            "open files are limited to %d: a worker has room for some %d connections and %d unfinished handshakes; "
            "raise LimitNOFILE (ulimit -Hn)",
            files,
            files // 2,
            handshakes,
        )
