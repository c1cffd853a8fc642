"""The configuration of the snigate that is soaked, as it is, and the ways in which it is changed."""

from __future__ import annotations

from collections.abc import Mapping

from soak import mail

SWAPPED = {"www.soak.test": "ecdsa-p256", "rsa.soak.test": "rsa-2048", "mail.soak.test": "ecdsa-p256"}
INSIDE, THROUGH, DOWN, REFUSED = (f"{name}.soak.test" for name in ("inside", "through", "down", "refused"))
HANDSHAKE_TIMEOUT, PREAMBLE_TIMEOUT, IDLE_TIMEOUT = 8, 9, 12  # seconds; clients stall until each of them
LISTENERS = ("web", "tcp", "plain", *mail.PROTOCOLS, *(f"{protocol}s" for protocol in mail.PROTOCOLS))
BACKENDS = ("http", "https", "down", *mail.PROTOCOLS)

_HEAD = f"""
[certificates]
directories = ["{{certs}}"]
trust = ["root.pem"]
default = "mail.soak.test"
[server]
workers = 2
state_directory = "state"
drain = "3s"
handshake_timeout = "{HANDSHAKE_TIMEOUT}s"
preamble_timeout = "{PREAMBLE_TIMEOUT}s"
idle_timeout = "{IDLE_TIMEOUT}s"
"""
_COMES_AND_GOES = '[[listeners.routes]]\nhosts = ["another.soak.test"]\nbackend = "http"\n'
_MISTAKES = (
    ("[server]", "nonsense = 1\n[server]"),
    ('backend = "http"', 'backend = "nowhere"'),
    ('bind = ["127.0.0.1:', 'bind = ["203.0.113.1:1443", "127.0.0.1:'),
)


def configuration(ports: Mapping[str, int], backends: Mapping[str, int]) -> str:
    """The TOML, with {port} for the port of "web", which comes first, and {certs} for the certificate directory."""
    tls = {"https": f'tls = "verify"\ntls_ca = "inside.pem"\ntls_name = "{INSIDE}"\n'}
    parts = [_backend(name, port, tls.get(name, "")) for name, port in backends.items()]
    parts.append(_backend("through", backends["https"]))
    parts += [_listener("web", "{port}", "http", "http"), _COMES_AND_GOES]
    parts.append(_listener("tcp", ports["tcp"], "tcp", "https"))
    parts.append(_route(THROUGH, 'action = "passthrough"\nbackend = "through"'))
    parts += [_route(REFUSED, 'action = "reject"'), _route(DOWN, 'backend = "down"')]
    for protocol in mail.PROTOCOLS:
        parts.append(_listener(protocol, ports[protocol], protocol, protocol, 'tls = "starttls"\n'))
        parts.append(_listener(f"{protocol}s", ports[f"{protocol}s"], protocol, protocol))
    parts.append(_listener("plain", ports["plain"], "http-redirect", ""))
    return _HEAD + "".join(parts)


def changed(text: str) -> str:
    """A configuration that is as good: a route comes or goes."""
    if _COMES_AND_GOES in text:
        return text.replace(_COMES_AND_GOES, "")
    web, found, rest = text.partition('[[listeners]]\nname = "tcp"')
    return web + _COMES_AND_GOES + found + rest


def spoilt(text: str, number: int) -> str:
    """One that cannot be used; what is wrong with it goes round with the number."""
    return text.replace(*_MISTAKES[number % len(_MISTAKES)], 1)


def _backend(name: str, port: int, more: str = "") -> str:
    return f'[backends.{name}]\nservers = ["127.0.0.1:{port}"]\nclient_address = "none"\n{more}'


def _listener(name: str, port: int | str, protocol: str, backend: str, more: str = "") -> str:
    where = f'backend = "{backend}"\n' if backend else ""
    return f'[[listeners]]\nname = "{name}"\nbind = ["127.0.0.1:{port}"]\nprotocol = "{protocol}"\n{where}{more}'


def _route(host: str, more: str) -> str:
    return f'[[listeners.routes]]\nhosts = ["{host}"]\n{more}\n'
