"""From a configuration to a plan that the supervisor can run, and from one plan to the next.

What the next one has in common with the plan in use is taken over from it: listening sockets by their configured
address, the keeper where the certificate settings are the same, and control where the configuration is. All problems
are found at once, and leave nothing behind.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from OpenSSL import SSL

from admin import access_token, logs
from admin.processes import control, keep, work
from admin.state import StateDirectory, StateError
from admin.surroundings import Sockets, Surroundings
from config.addresses import TcpAddress
from config.errors import ConfigError
from config.model import Config
from proxy.backend_tls import BackendTls, backend_tls
from proxy.child import ChildSpec
from proxy.client_auth import ClientAuthError, client_auth_files
from proxy.contexts import ContextError, front_context
from proxy.cpus import usable_cpus
from proxy.generation import Plan, PlanError, identity
from proxy.inherited import Inherited
from proxy.policy import Policy
from proxy.privileges import User, UserError, user_to_become
from proxy.routing import RouteTable, route_tables
from proxy.sockets import (
    BindError,
    Bound,
    Share,
    bind_listeners,
    bind_tcp,
    bind_unix,
    bound_addresses,
    covers,
    share_of,
    sockets_of,
)
from proxy.worker import Generation

log = logging.getLogger("snigate.serve")


@dataclass(frozen=True, eq=False, kw_only=True)
class ServerPlan(Plan):
    """A plan, and what the next one is made from."""

    surroundings: Surroundings  # of control; the configuration is in it
    bound: tuple[Bound, ...]

    @property
    def config(self) -> Config:
        """What is planned for."""
        return self.surroundings.config


class Planner:
    """Makes plans for one run of snigate: in one state directory, as one user."""

    def __init__(
        self,
        state: StateDirectory,
        user: User | None,
        metrics_directory: Path,
        reread: Callable[[], Config],
        started_at: float,
        inherited: Inherited | None = None,
    ) -> None:
        """`reread` reads the configuration again, and raises ConfigError; `started_at` is Unix seconds."""
        self._inherited = inherited
        self._state = state
        self._user = user
        self._metrics_directory = metrics_directory
        self._reread = reread
        self._started_at = started_at
        self._keepers = 0

    def next(self, current: Plan, reread: bool) -> ServerPlan:
        """What the supervisor calls. Raises PlanError."""
        import admin.control  # noqa: F401 - once here, rather than in each control process that follows

        assert isinstance(current, ServerPlan)
        try:
            config = self._reread() if reread else current.config
        except ConfigError as error:
            raise PlanError(tuple(map(str, error.problems))) from error
        return self.plan(config, current)

    def plan(self, config: Config, current: ServerPlan | None = None) -> ServerPlan:
        """A plan for a configuration, beside the one in use if there is one. Raises PlanError."""
        problems = _Problems()
        if current is not None:
            problems.found += _fixed(current.config, config)
            problems.found += _handed_over(current, config)
            problems.end_if_any()
        with contextlib.ExitStack() as undo:
            with problems.of(StateError):
                token = access_token.ensure(config.admin.token_file)
            workers = config.server.workers or usable_cpus()
            before = current.bound if current is not None else ()
            with problems.of(BindError):
                bound = bind_listeners(config, workers, before, self._inherited)
                undo.callback(_close, sockets_of(bound), sockets_of(before))
            with problems.of(BindError):
                sockets = self._control_sockets(config, current, undo)
            with problems.of(BindError):
                keeper, path = self._keeper(config, current, undo)
            made = self._state.default_certificate_for(self._user)
            watched = {path: identity(path) for path in (*made, *client_auth_files(config))}
            routes: dict[str, RouteTable] = {}
            with problems.of(ClientAuthError):
                routes = route_tables(config)
            fronts = _fronts(routes, problems)
            towards_backends: dict[str, BackendTls] = {}
            with problems.of(ContextError):
                towards_backends = backend_tls(config)
            problems.end_if_any()
            surroundings = Surroundings(
                config=config,
                sockets=sockets,
                keeper_socket=path,
                metrics_directory=self._metrics_directory,
                token=token,
                listeners=bound_addresses(bound),
                started_at=self._started_at,
            )
            generation = Generation(config, path, self._metrics_directory, routes, fronts, towards_backends)
            undo.pop_all()
        return ServerPlan(
            keeper=keeper,
            control=self._control(surroundings, current),
            workers=tuple(self._worker(generation, share_of(place, workers, bound)) for place in range(workers)),
            sockets=(*keeper.keeps, *sockets.every, *sockets_of(bound)),
            listening=(*sockets.tcp, *sockets_of(bound)),
            drain=config.server.drain,
            predrain=config.server.predrain or 0.0,
            retire=config.server.retire,
            renewal=config.tls.ticket_key_lifetime,
            watched=watched,
            on_serving=partial(_on_serving, config, self._inherited),
            surroundings=surroundings,
            bound=bound,
        )

    def _worker(self, generation: Generation, share: Share) -> ChildSpec:
        keeps = tuple(sock for sockets in share.values() for sock in sockets)
        return ChildSpec("worker", partial(work, generation, share, self._user), keeps)

    def _control(self, surroundings: Surroundings, current: ServerPlan | None) -> ChildSpec:
        if current is not None and surroundings == current.surroundings:
            return current.control
        return ChildSpec("control", partial(control, surroundings, self._user), surroundings.sockets.every)

    def _keeper(self, config: Config, current: ServerPlan | None, undo: contextlib.ExitStack) -> tuple[ChildSpec, Path]:
        """The keeper and where it listens; the one in use, where that reads the same."""
        if current is not None and config.certificates == current.config.certificates:
            return current.keeper, current.surroundings.keeper_socket
        self._keepers += 1
        path = self._state.new_keeper_socket(
            self._keepers, current.surroundings.keeper_socket if current is not None else None
        )
        listening = bind_unix(path, self._user)
        undo.callback(listening.close)
        return ChildSpec("keeper", partial(keep, config, listening, self._user), (listening,)), path

    def _control_sockets(self, config: Config, current: ServerPlan | None, undo: contextlib.ExitStack) -> Sockets:
        """The operator's sockets; those whose address is the same are kept. Raises BindError."""
        old = current.surroundings.sockets if current is not None else None
        known: dict[TcpAddress, socket.socket] = {}
        if old is not None and current is not None:
            known[current.config.admin.listen] = old.admin
            if old.metrics is not None and current.config.metrics is not None:
                known[current.config.metrics.listen] = old.metrics

        def fresh(sock: socket.socket) -> socket.socket:
            undo.callback(sock.close)
            return sock

        def bind(name: str, address: TcpAddress) -> socket.socket:
            if address in known:
                return known[address]
            return fresh(bind_tcp(name, address, old.tcp if old is not None else ()))

        return Sockets(
            admin=bind("admin.listen", config.admin.listen),
            metrics=bind("metrics.listen", config.metrics.listen) if config.metrics is not None else None,
            local=old.local if old is not None else fresh(bind_unix(self._state.control_socket, self._user)),
        )


def warn_of(inherited: Inherited, config: Config) -> None:
    """Tell the operator of what systemd handed over and nobody uses."""
    for address in inherited.left(one for listener in config.listeners for one in listener.bind):
        log.warning(
            "systemd holds a socket at %s, where no listener is: who connects there waits in vain; "
            "take it out of the .socket unit, or give it a listener",
            address,
        )
    if inherited.strange:
        log.warning(
            "systemd handed over %d descriptors that are no TCP sockets; snigate has no use for them", inherited.strange
        )


def _on_serving(config: Config, inherited: Inherited | None) -> None:
    logs.configure(config.log)
    if inherited is not None:
        warn_of(inherited, config)


class _Problems:
    """What was found to be wrong, so that all of it can be said at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextlib.contextmanager
    def of(self, *kinds: type[Exception]) -> Iterator[None]:
        """Note errors of these kinds, a line of theirs each, and go on behind the block."""
        try:
            yield
        except kinds as error:
            self.found += str(error).splitlines()

    def end_if_any(self) -> None:
        if self.found:
            raise PlanError(tuple(self.found))


def _fronts(routes: Mapping[str, RouteTable], problems: _Problems) -> dict[Policy, SSL.Context]:
    """A fresh front context, with ticket keys of its own, for each policy."""
    fronts: dict[Policy, SSL.Context] = {}
    for policy in {policy for table in routes.values() for policy in table.policies}:
        with problems.of(ContextError):
            fronts[policy] = front_context(policy)
    return fronts


def _fixed(before: Config, after: Config) -> list[str]:
    """What cannot change while snigate runs."""
    found = []
    if after.server.state_directory != before.server.state_directory:
        found.append(
            f"server.state_directory cannot change from {before.server.state_directory} to "
            f"{after.server.state_directory} while snigate runs; restart it"
        )
    if after.server.user != before.server.user:
        try:
            user_to_become(after.server.user)
            found.append("server.user cannot change while snigate runs; restart it")
        except UserError as error:
            found.append(str(error))
    return found


def _handed_over(current: ServerPlan, config: Config) -> list[str]:
    """Addresses that would go from listeners to the operator's side, or back, in one step.

    Both would accept on them for a moment.
    """
    found = []
    for name, address in _operators(config).items():
        for one in current.bound:
            if address is not None and any(covers(address, sock) for sock in one.slots):
                found.append(_in_two_steps(name, address, f"listener {one.listener}"))
    old = current.surroundings.sockets
    for listener in config.listeners:
        for address in listener.bind:
            if any(covers(address, sock) for sock in old.tcp):
                found.append(_in_two_steps(f"listener {listener.name}", address, "admin.listen or metrics.listen"))
    return found


def _in_two_steps(new: str, address: TcpAddress, old: str) -> str:
    return f"{new}: {address} is still that of {old}; take it away there, reload, and then give it a new use"


def _operators(config: Config) -> dict[str, TcpAddress | None]:
    return {
        "admin.listen": config.admin.listen,
        "metrics.listen": config.metrics.listen if config.metrics is not None else None,
    }


def _close(sockets: tuple[socket.socket, ...], kept: tuple[socket.socket, ...]) -> None:
    for sock in sockets:
        if sock not in kept:
            sock.close()
