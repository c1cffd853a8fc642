"""Where a connection goes: by listener and server name, an exact host before a wildcard, whatever their order."""

from __future__ import annotations

from dataclasses import dataclass

from certstore.names import wildcard_of
from config.model import Config, ListenerConfig
from proxy.policy import Policy, ProfileName


@dataclass(frozen=True, slots=True)
class Route:
    """What is done with connections for some hosts of a listener."""

    hosts: tuple[str, ...]  # canonical names and wildcards; empty: every other host
    policy: Policy
    backend: str  # a key of Config.backends, or "welcome"


class RouteTable:
    """The routes of one listener."""

    def __init__(self, listener: ListenerConfig, profile: ProfileName) -> None:
        """`profile` is the one of [tls]; a route takes from its listener whatever it does not say."""
        assert listener.backend is not None
        alpn = _protocols(listener.alpn)
        self.otherwise = Route((), Policy(profile, alpn), listener.backend)
        self.routes = tuple(
            Route(
                one.hosts,
                Policy(one.profile or profile, alpn if one.alpn is None else _protocols(one.alpn)),
                one.backend or listener.backend,
            )
            for one in listener.routes
        )
        self._by_host = {host: route for route in self.routes for host in route.hosts}

    def find(self, server_name: str | None) -> Route:
        """The route of a canonical server name; None without SNI."""
        if not self._by_host or server_name is None:
            return self.otherwise
        route = self._by_host.get(server_name)
        if route is None and (wildcard := wildcard_of(server_name)) is not None:
            route = self._by_host.get(wildcard)
        return route or self.otherwise

    @property
    def policies(self) -> frozenset[Policy]:
        """Every policy that a connection of this listener may come under."""
        return frozenset(route.policy for route in (self.otherwise, *self.routes))


def route_tables(config: Config) -> dict[str, RouteTable]:
    """The route table of each listener that terminates TLS, by the listener's name."""
    return {one.name: RouteTable(one, config.tls.profile) for one in config.listeners if not one.redirects}


def _protocols(names: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(name.encode() for name in names)
