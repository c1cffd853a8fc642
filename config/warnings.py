"""What is allowed in a configuration but probably not meant. Warnings that need certificates are made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.errors import Problem
from config.mail_warnings import mail_warnings
from config.model import Config, ListenerConfig, RouteConfig

_ALL = "server.max_connections"


def warnings(config: Config) -> list[Problem]:
    """The warnings about a loaded configuration: about [server], then in the order of its listeners."""
    source = config.source or Path("built-in defaults")
    found = [Problem(f"server.{key}", message, source) for key, message in _servers_idle_limits(config)]
    for index, listener in enumerate(config.listeners):
        file = config.file_of_listener(index) or Path("built-in defaults")
        for key, message in (*mail_warnings(config, listener), *_listeners_idle_limits(config, listener)):
            found.append(Problem(f"listeners[{listener.name}].{key}", message, file))
        found += _open_side_doors(config, index)
    return found


def _servers_idle_limits(config: Config) -> Iterator[tuple[str, str]]:
    """Limits of [server] that are never reached, since there is room for fewer connections."""
    server, room = config.server, config.server.max_connections
    if server.max_connections_per_client is not None and server.max_connections_per_client > room:
        yield "max_connections_per_client", _never_reached(server.max_connections_per_client, _ALL, room)
    if server.max_handshakes is not None and server.max_handshakes >= room:
        stalled = f"{server.max_handshakes} that stall take all the room of {_ALL} ({room}), and nobody is let in"
        yield "max_handshakes", f"{stalled}; lower it, or raise that"


def _listeners_idle_limits(config: Config, listener: ListenerConfig) -> Iterator[tuple[str, str]]:
    """The same of a listener's own."""
    room, key = config.server.max_connections, _ALL
    if listener.max_connections is not None:
        if listener.max_connections > room:
            yield "max_connections", _never_reached(listener.max_connections, key, room)
        else:
            room, key = listener.max_connections, "this listener's max_connections"
    limit = listener.max_connections_per_client
    if limit is not None and limit > room:
        yield "max_connections_per_client", _never_reached(limit, key, room)


def _never_reached(limit: int, key: str, room: int) -> str:
    return f"{limit} is never reached, since {key} ({room}) comes first; lower it, or raise that"


def _open_side_doors(config: Config, index: int) -> list[Problem]:
    """Routes that demand a certificate for what can be reached without one, by another name or protocol."""
    listener = config.listeners[index]
    file = config.file_of_listener(index) or Path("built-in defaults")
    demanding = [(place, route) for place, route in enumerate(listener.routes) if route.client_auth == "required"]
    free = {listener.backend}
    free |= {one.backend or listener.backend for one in listener.routes if _lets_anybody_in(one)}
    found = []
    for place, route in demanding:
        where = f"listeners[{listener.name}].routes[{place}]"
        if (backend := route.backend or listener.backend) in free:
            message = (
                f'backend "{backend}" can be reached without a certificate too, by asking this listener for another '
                "server name or none; give the route a backend of its own"
            )
            found.append(Problem(f"{where}.client_auth", message, file))
        others = [one for _, one in demanding if set(one.hosts) & set(route.hosts)]
        if route.match_alpn and all(one.match_alpn for one in others):
            message = (
                "clients that offer other protocols, or none, are served as if the host had no route, without a "
                "certificate; add a route for the host without match_alpn"
            )
            found.append(Problem(f"{where}.match_alpn", message, file))
    return found


def _lets_anybody_in(route: RouteConfig) -> bool:
    return route.action == "terminate" and route.client_auth != "required"
