"""Why a host name is served by which certificate, in the API's and the commands' words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from admin import answers
from admin.text import iso, plain
from certstore.names import InvalidName, canonical_pattern, shown
from certstore.preference import Preference
from certstore.ranking import Level, Order
from certstore.selector import Candidate, Selector
from config.model import Config, ListenerConfig
from config.words import quoted, suggestion
from proxy.listener_selector import preference_of

_URL = re.compile(r".*/.*|(\[.*\]|[^:]*):[0-9]*", re.DOTALL)  # with a scheme or path, or a host with a port


class UnknownListenerError(ValueError):
    """No certificate is chosen on a listener of this name; says what to do."""


class Asked(NamedTuple):
    """What a client does: it sends a host name (in canonical form), or sends none and connects to an address."""

    host: str | None = None
    address: str | None = None  # as the ipaddress module prints it


def asked(text: str) -> Asked:
    """What an operator asks about: a host name in any spelling, a wildcard, an IP address; neither for "".

    Raises InvalidName.
    """
    if not text:
        return Asked()
    try:
        return Asked(address=str(ip_address(text.removeprefix("[").removesuffix("]"))))
    except ValueError:
        pass
    if _URL.fullmatch(text):
        raise InvalidName(f"{shown(text)} is more than a host name: leave out scheme, port and path")
    return Asked(canonical_pattern(text))


def listener_named(config: Config, name: str) -> ListenerConfig:
    """The listener of this name; raises UnknownListenerError, also where it has no TLS."""
    found = next((one for one in config.listeners if one.name == name), None)
    if found is None:
        known = [one.name for one in config.listeners if not one.redirects]
        hint = suggestion(name, known) or f"; there are: {', '.join(known) or 'none'}"
        raise UnknownListenerError(f"there is no listener {quoted(name)}{hint}")
    if found.redirects:
        raise UnknownListenerError(f"listener {quoted(name)} speaks plain HTTP and serves no certificate")
    return found


def explain(
    selector: Selector, about: Asked, order: Order, listener: ListenerConfig | None = None
) -> answers.Explanation:
    """Every candidate for a client that does so; `selector` is the listener's, where one is given."""
    candidates = selector.explain(about.host, about.address)
    preference = preference_of(listener) if listener is not None else None
    return answers.Explanation(
        host=about.host,
        address=about.address,
        listener=listener.name if listener is not None else None,
        order=order,
        covered=any(one.selection.level is not Level.DEFAULT for one in candidates),
        served=candidates[0].selection.certificate.fingerprint if candidates else None,
        candidates=tuple(_candidates(candidates, preference)),
    )


def best(selector: Selector, host: str | None) -> answers.Candidate | None:
    """The first candidate."""
    return next(iter(_candidates(selector.explain(host)[:1])), None)


def configured_hosts(config: Config) -> dict[str, tuple[str, ...]]:
    """Every host name and wildcard that the listeners' routes need a certificate for, with those listeners."""
    return _with_listeners((host, one) for one in config.listeners for host in routed_hosts(one))


def routed_hosts(listener: ListenerConfig) -> tuple[str, ...]:
    """Every host name and wildcard that one listener's routes need a certificate for."""
    routes = (route for route in listener.routes if route.action == "terminate")
    return tuple(dict.fromkeys(host for route in routes for host in route.hosts))


def _known_hosts(listeners: Iterable[ListenerConfig]) -> dict[str, tuple[str, ...]]:
    """The hosts of routes, then the listeners' own defaults, each with the listeners that name it."""
    every = tuple(listeners)
    routed = [(host, one) for one in every for host in routed_hosts(one)]
    return _with_listeners((*routed, *((one.default, one) for one in every if one.default is not None)))


def _with_listeners(named: Iterable[tuple[str, ListenerConfig]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for host, listener in named:
        found.setdefault(host, {})[listener.name] = None
    return {host: tuple(listeners) for host, listeners in found.items()}


def explain_hosts(
    selector: Selector, config: Config, default: str | None, listener: ListenerConfig | None = None
) -> answers.Hosts:
    """What serves each host name of the configuration, or of one listener (`selector` is its own then).

    `default` is the default certificate's host name.
    """
    listeners = _known_hosts(config.listeners if listener is None else (listener,))
    names = [*listeners, *([default] if default is not None and default not in listeners else [])]
    hosts = []
    for name in names:
        served = best(selector, name)
        hosts.append(
            answers.Host(
                host=name,
                listeners=listeners.get(name, ()),
                is_default=name == default,
                covered=served is not None and served.level != Level.DEFAULT,
                served=served,
            )
        )
    return answers.Hosts(config.certificates.order, tuple(hosts), best(selector, None))


def _candidates(candidates: Iterable[Candidate], preference: Preference | None = None) -> Iterable[answers.Candidate]:
    for rank, (selection, reason) in enumerate(candidates, 1):
        one = selection.certificate
        yield answers.Candidate(
            rank=rank,
            level=selection.level.value,
            level_words=selection.level.words,
            reason=reason,
            matched=selection.matched,
            fingerprint=one.fingerprint,
            key_type=one.key_type,
            names=one.names,
            addresses=one.addresses,
            not_before=iso(one.not_before),
            not_after=iso(one.not_after),
            paths=tuple(map(plain, one.paths)),
            pinned=preference is not None and preference.is_pinned(one),
        )
