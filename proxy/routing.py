"""Where a connection goes: by listener, server name and ALPN, whatever the order in which routes are written.

An exact host before a wildcard; for one host, a route for certain ALPN protocols before one for any. What no route
matches is the listener's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from certstore.names import wildcard_of
from config.model import Config, ListenerConfig, RouteConfig
from proxy.client_auth import client_auth
from proxy.policy import Policy, ProfileName


class Action(Enum):
    """What is done with a connection."""

    TERMINATE = "terminate"
    PASSTHROUGH = "passthrough"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Route:
    """What is done with connections for some hosts of a listener."""

    hosts: tuple[str, ...]  # canonical names and wildcards; empty: every other host
    policy: Policy
    backend: str  # a key of Config.backends, or "welcome"
    action: Action = Action.TERMINATE
    match_alpn: tuple[bytes, ...] = ()  # empty: any
    name: str = field(init=False)  # how the log calls it: its first host; "-" for what a listener does itself

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.hosts[0] if self.hosts else "-")


@dataclass(slots=True)
class _Choice:
    """The routes of one host: by ALPN protocol, and for any."""

    by_alpn: dict[bytes, Route] = field(default_factory=dict)
    any: Route | None = None

    def add(self, route: Route) -> None:
        self.by_alpn.update(dict.fromkeys(route.match_alpn, route))
        if not route.match_alpn:
            self.any = route

    def find(self, offered: Iterable[bytes]) -> Route | None:
        """The route for the first of the client's protocols that has one, in the client's order of preference."""
        if self.by_alpn:
            for protocol in offered:
                if (route := self.by_alpn.get(protocol)) is not None:
                    return route
        return self.any


class RouteTable:
    """The routes of one listener."""

    def __init__(self, listener: ListenerConfig, profile: ProfileName) -> None:
        """`profile` is the one of [tls]; a route takes from its listener whatever it does not say.

        Raises ClientAuthError.
        """
        assert listener.backend is not None
        self.otherwise = Route((), Policy(profile, _protocols(listener.alpn)), listener.backend)
        self.routes = tuple(
            Route(
                one.hosts,
                Policy(one.profile or profile, _alpn(one, listener), client_auth(one)),
                one.backend or listener.backend,
                Action(one.action),
                _protocols(one.match_alpn),
            )
            for one in listener.routes
        )
        self._by_host: dict[str, _Choice] = {}
        for route in self.routes:
            for host in route.hosts:
                self._by_host.setdefault(host, _Choice()).add(route)

    def find(self, server_name: str | None, alpn: Iterable[bytes] = ()) -> Route:
        """The route of a canonical server name (None without SNI) and the ALPN protocols that the client offers."""
        if not self._by_host or server_name is None:
            return self.otherwise
        choice = self._by_host.get(server_name)
        if choice is not None and (route := choice.find(alpn)) is not None:
            return route
        wildcard = wildcard_of(server_name)
        choice = self._by_host.get(wildcard) if wildcard is not None else None
        return (choice.find(alpn) if choice is not None else None) or self.otherwise

    @property
    def policies(self) -> frozenset[Policy]:
        """Every policy that a connection of this listener may come under."""
        terminating = (route.policy for route in self.routes if route.action is Action.TERMINATE)
        return frozenset((self.otherwise.policy, *terminating))


def route_tables(config: Config) -> dict[str, RouteTable]:
    """The route table of each listener that terminates TLS, by the listener's name.

    Raises ClientAuthError for a file of client authorities that cannot be used.
    """
    return {one.name: RouteTable(one, config.tls.profile) for one in config.listeners if not one.redirects}


def _alpn(route: RouteConfig, listener: ListenerConfig) -> tuple[bytes, ...]:
    """What a route offers by ALPN.

    Where it does not say so, that is what its listener offers; a route for certain protocols offers only those, so that
    what is negotiated is what the route was chosen for.
    """
    if route.alpn is not None:
        return _protocols(route.alpn)
    if not route.match_alpn:
        return _protocols(listener.alpn)
    return _protocols(tuple(one for one in listener.alpn if one in route.match_alpn) or route.match_alpn)


def _protocols(names: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(name.encode() for name in names)
