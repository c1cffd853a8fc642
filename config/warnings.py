"""What is allowed in a configuration but probably not meant. Warnings that need certificates are made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.errors import Problem
from config.model import Config, ListenerConfig, RouteConfig

_SMTP_PORT = 25


def warnings(config: Config) -> list[Problem]:
    """The warnings about a loaded configuration, in the order of its listeners."""
    found = []
    for index, listener in enumerate(config.listeners):
        file = config.file_of_listener(index) or Path("built-in defaults")
        for key, message in (*_refused_senders(listener), *_plain_text(listener)):
            found.append(Problem(f"listeners[{listener.name}].{key}", message, file))
        found += _open_side_doors(config, index)
    return found


def _refused_senders(listener: ListenerConfig) -> Iterator[tuple[str, str]]:
    """strict_sni where other mail servers deliver: on port 25, whatever is said of the protocol, or by STARTTLS."""
    if not listener.strict_sni:
        return
    if any(address.port == _SMTP_PORT for address in listener.bind):
        where = "to port 25"
    elif listener.protocol == "smtp" and listener.tls == "starttls":
        where = "by SMTP with STARTTLS"
    else:
        return
    message = (
        f"mail servers that deliver {where} often send no server name, and are refused here; set it to false and make "
        "the MX name the default of this listener"
    )
    yield "strict_sni", message


def _plain_text(listener: ListenerConfig) -> Iterator[tuple[str, str]]:
    if listener.lets_plain_text_through:
        message = (
            "clients may go on without TLS here, and everything they say reaches the server in plain text; set it to "
            "true unless the listener is for other mail servers (port 25), of which some have no TLS"
        )
        yield "require_tls", message


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
