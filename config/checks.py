"""What one table alone cannot tell: names that must exist or differ, addresses and hosts given twice.

Every check takes the whole configuration and yields (key path, sentence). The loader runs them also over a
configuration with gaps, so that all problems come at once, and drops what follows from a problem already found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from config.addresses import TcpAddress, UnixAddress
from config.fields import WELCOME, is_address
from config.mail_checks import mail_findings, references
from config.model import HTTP_REDIRECT, BackendConfig, Config, ListenerConfig, RouteConfig
from config.sources import KeyPath
from config.words import quoted, suggestion

SHORTEST_KEYS = 60.0  # seconds

Findings = Iterator[tuple[KeyPath, str]]

_NOT_OF_REDIRECTS = (
    *("tls", "require_tls", "alpn", "strict_sni", "default", "pin", "backend"),
    *("preamble_timeout", "idle_timeout", "routes"),
)
_ONLY_OF_REDIRECTS = ("redirect_port", "acme_webroot", "acme_backend")
# Keys of a route about TLS that ends here.
_TERMINATION = frozenset({"profile", "alpn", "client_auth", "client_ca", "client_crl"})


def inconsistencies(config: Config) -> Findings:
    """Everything in the configuration that does not fit together."""
    yield from _names_given_twice(config)
    yield from _addresses_given_twice(config)
    yield from _out_of_place_keys(config)
    yield from _missing_backends(config)
    yield from _hasty_ticket_keys(config)
    yield from mail_findings(config)
    for name, backend in config.backends.items():
        yield from _servers_given_twice(backend, ("backends", name, "servers"))
        yield from _idle_backend_keys(backend, ("backends", name))
    for index, listener in enumerate(config.listeners):
        yield from _hosts_given_twice(listener, ("listeners", index, "routes"))
        yield from _idle_default(listener, ("listeners", index))
        yield from _idle_preamble(listener, ("listeners", index))
        for place, route in enumerate(listener.routes):
            yield from _idle_keys(listener, route, ("listeners", index, "routes", place))
            yield from _twice_encrypted(config, listener, route, ("listeners", index, "routes", place))


def _hasty_ticket_keys(config: Config) -> Findings:
    if config.tls.ticket_key_lifetime < SHORTEST_KEYS:
        yield (
            ("tls", "ticket_key_lifetime"),
            f"must be at least {SHORTEST_KEYS:g} s, since each time all workers are replaced",
        )


def _names_given_twice(config: Config) -> Findings:
    seen: set[str] = set()
    for index, listener in enumerate(config.listeners):
        if listener.name in seen:
            yield ("listeners", index, "name"), f"a listener {quoted(listener.name)} exists already; rename one of them"
        seen.add(listener.name)


def _addresses_given_twice(config: Config) -> Findings:
    owners: dict[tuple[str, int], str] = {}
    for path, owner, address in _listen_addresses(config):
        if address.port == 0:
            continue
        hosts = ("0.0.0.0", "::") if address.host is None else (address.host,)  # noqa: S104 - compared, not bound
        taken = next((owners[host, address.port] for host in hosts if (host, address.port) in owners), None)
        if taken is None:
            owners.update(dict.fromkeys(((host, address.port) for host in hosts), owner))
        else:
            yield path, f'"{address}" is already taken by {taken}; give each its own address or port'


def _listen_addresses(config: Config) -> Iterator[tuple[KeyPath, str, TcpAddress]]:
    yield ("admin", "listen"), "admin.listen", config.admin.listen
    if config.metrics is not None:
        yield ("metrics", "listen"), "metrics.listen", config.metrics.listen
    for index, listener in enumerate(config.listeners):
        for address in listener.bind:
            yield ("listeners", index, "bind"), f"listener {quoted(listener.name)}", address


def _missing_backends(config: Config) -> Findings:
    for index, listener in enumerate(config.listeners):
        for path, name in references(listener, index):
            if name == WELCOME:
                if listener.is_mail:
                    yield path, f'the built-in backend "{WELCOME}" speaks HTTP; name the server of this mail listener'
            else:
                yield from _missing_backend(config, path, name, (WELCOME,))
        if listener.acme_backend == WELCOME:
            message = f'the built-in backend "{WELCOME}" answers no challenges; name the server that does'
            yield ("listeners", index, "acme_backend"), message
        elif listener.acme_backend is not None:
            yield from _missing_backend(config, ("listeners", index, "acme_backend"), listener.acme_backend, ())


def _missing_backend(config: Config, path: KeyPath, name: str, built_in: tuple[str, ...]) -> Findings:
    if name not in config.backends:
        known = [text for text in config.backends if not is_address(text)]
        hint = suggestion(name, [*known, *built_in]) or (
            f'; add [backends.{name}], or give an address such as "127.0.0.1:8080"'
        )
        yield path, f"there is no backend {quoted(name)}{hint}"


def _out_of_place_keys(config: Config) -> Findings:
    """What an http-redirect listener has no use for, and what only such a listener has."""
    for index, listener in enumerate(config.listeners):
        said = {key for key in listener.model_fields_set if key != "routes" or listener.routes}
        if listener.redirects:
            for key in _NOT_OF_REDIRECTS:
                if key in said:
                    message = f"an {HTTP_REDIRECT} listener sends every client on to https and has no use for this key"
                    yield ("listeners", index, key), f"{message}; leave it out"
            if {"acme_webroot", "acme_backend"} <= said:
                yield ("listeners", index, "acme_backend"), "acme_webroot is said too; keep one of them"
            continue
        for key in _ONLY_OF_REDIRECTS:
            if key in said:
                message = f'only a listener with protocol = "{HTTP_REDIRECT}" has this key; leave it out'
                yield ("listeners", index, key), message


def _servers_given_twice(backend: BackendConfig, path: KeyPath) -> Findings:
    for place, server in enumerate(backend.servers):
        if server in backend.servers[:place]:
            yield (*path, place), f'"{server}" is already in the list; name each server once'


def _idle_backend_keys(backend: BackendConfig, path: KeyPath) -> Findings:
    """Keys of a backend that could have no effect, and a certificate's name that nothing says."""
    said = backend.model_fields_set
    if backend.tls == "off":
        for key in sorted(said & {"tls_ca", "tls_name", "tls_pin"}):
            yield (*path, key), 'has no effect without tls = "verify" or "starttls"; add one, or leave the key out'
    else:
        if backend.tls_pin and "tls_ca" in said:
            yield (*path, "tls_ca"), "has no effect beside tls_pin, which decides alone; leave one of them out"
        unnamed = next((one for one in backend.servers if isinstance(one, UnixAddress)), None)
        if unnamed is not None and backend.tls_name is None and not backend.tls_pin:
            yield (
                (*path, "tls_name"),
                f'is missing: "{unnamed}" has no host name that its certificate could be for; say the name here, or '
                "use tls_pin",
            )
    if backend.check == "off" and "check_interval" in said:
        yield (*path, "check_interval"), 'has no effect without check; say check = "tcp", or leave the key out'
    if backend.check != "http":
        for key in sorted(said & {"check_path", "check_status"}):
            yield (*path, key), 'has no effect without check = "http"; say that, or leave the key out'


def _twice_encrypted(config: Config, listener: ListenerConfig, route: RouteConfig, path: KeyPath) -> Findings:
    name = route.backend or listener.backend
    backend = config.backends.get(name) if name is not None else None
    if route.action == "passthrough" and name is not None and backend is not None and backend.tls != "off":
        yield (
            (*path, "backend" if route.backend else "action"),
            f"backend {quoted(name)} has tls = {quoted(backend.tls)}, but what passes through is the client's own TLS "
            'already; name a backend with tls = "off"',
        )


def _hosts_given_twice(listener: ListenerConfig, path: KeyPath) -> Findings:
    seen: dict[str, list[tuple[int, RouteConfig]]] = {}
    for place, route in enumerate(listener.routes):
        for host in route.hosts:
            earlier = seen.setdefault(host, [])
            rival = next((other for other, given in earlier if _compete(given, route)), None)
            if rival is not None:
                where = "twice in this route" if rival == place else f"also in routes[{rival}] of this listener"
                yield (*path, place, "hosts"), f"{quoted(host)} is {where}; keep it in one place"
            earlier.append((place, route))


def _idle_default(listener: ListenerConfig, path: KeyPath) -> Findings:
    if listener.default is not None and listener.strict_sni and not listener.redirects:
        yield (
            (*path, "default"),
            "has no effect with strict_sni = true, which refuses whom the default certificate is for; leave one out",
        )


def _idle_preamble(listener: ListenerConfig, path: KeyPath) -> Findings:
    if listener.preamble_timeout is not None and listener.tls != "starttls" and not listener.redirects:
        yield (
            (*path, "preamble_timeout"),
            'has no effect without tls = "starttls", since nothing comes before TLS; say that, or leave the key out',
        )


def _idle_keys(listener: ListenerConfig, route: RouteConfig, path: KeyPath) -> Findings:
    """Keys of a route that could have no effect, and ALPN protocols that could never be agreed on."""
    said = route.model_fields_set
    if route.action != "terminate":
        why = "whose TLS is the backend's own" if route.action == "passthrough" else "which serves nobody"
        idle = _TERMINATION | ({"backend"} if route.action == "reject" else frozenset())
        for key in sorted(said & idle):
            yield (*path, key), f'has no effect on a route with action = "{route.action}", {why}; leave it out'
    elif route.match_alpn and route.alpn is not None and not set(route.alpn) & set(route.match_alpn):
        yield (
            (*path, "alpn"),
            f"has none of match_alpn's {_listed(route.match_alpn)}, so what the route is chosen for could never be "
            "agreed on; add one, or leave the key out",
        )
    elif route.client_auth == "off":
        for key in sorted(said & {"client_ca", "client_crl"}):
            yield (*path, key), 'has no effect without client_auth = "optional" or "required"; say that too'
    elif route.client_ca is None:
        yield (
            (*path, "client_ca"),
            f'is missing: client_auth = "{route.client_auth}" needs the authorities whose certificates are accepted, '
            'for example client_ca = "/etc/snigate/clients.pem"',
        )
    if route.action == "passthrough" and (route.backend or listener.backend) == WELCOME:
        yield (
            (*path, "backend" if "backend" in said else "action"),
            f'the built-in backend "{WELCOME}" does not speak TLS; name a server that does, or use "terminate"',
        )


def _listed(names: Iterable[str]) -> str:
    return " or ".join(map(quoted, names))


def _compete(first: RouteConfig, second: RouteConfig) -> bool:
    """Whether no rule tells which of two routes of a host is meant; a route for some ALPN names beats one for any."""
    if not first.match_alpn or not second.match_alpn:
        return not first.match_alpn and not second.match_alpn
    return not set(first.match_alpn).isdisjoint(second.match_alpn)
