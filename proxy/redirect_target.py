"""Where a plain HTTP request is sent on to: from a request's target and Host to an https address, or a refusal.

What goes into the answer's Location is built from parts that are safe by their form, never copied: the host is a
canonical host name or an IP address as we print it, the port is our own, and path and query are visible ASCII, as the
HTTP parser has made sure. So nothing that a client sends can add a header or point anywhere but to the host it named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, NoReturn

from certstore.names import InvalidName, canonical_name

HTTPS: Final = 443
CHALLENGES: Final = "/.well-known/acme-challenge/"  # RFC 8555 section 8.3

_SCHEME: Final = "http://"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_MAX_TOKEN: Final = 255  # characters of a file's name


class BadRequest(Exception):  # noqa: N818 - named as its answer is, 400
    """The request names no host that it could be sent on to. `reason` is one word for the log."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Target(NamedTuple):
    """What a request asks for."""

    host: str  # canonical name, IPv4 address, or IPv6 address in brackets; no port
    path: str  # with the query, as sent; begins with a slash

    def location(self, port: int) -> str:
        """The https address of the same thing; `port` is left out where it is 443."""
        return f"https://{self.host}{'' if port == HTTPS else f':{port}'}{self.path}"

    @property
    def challenge(self) -> str | None:
        """The token, where an ACME challenge is asked for."""
        token = self.path.partition("?")[0].removeprefix(CHALLENGES)
        if self.path.startswith(CHALLENGES) and len(token) <= _MAX_TOKEN and _TOKEN.fullmatch(token):
            return token
        return None


def target(request_target: bytes, hosts: Sequence[bytes]) -> Target:
    """What a request of this target and these Host fields asks for. Raises BadRequest.

    A target in absolute form overrules Host (RFC 9112 section 3.2.2), but does not excuse a bad one.
    """
    if len(hosts) != 1:
        raise BadRequest("no_host", "the request must have one Host")
    text = request_target.decode("latin-1")
    if _VISIBLE.fullmatch(text) is None or "#" in text:
        raise BadRequest("bad_target", "the request's target is malformed")
    host = _host(hosts[0])
    if text.startswith("/"):
        return Target(host, text)
    if text[: len(_SCHEME)].lower() != _SCHEME:
        raise BadRequest("bad_target", "the request's target is neither a path nor an http address")
    rest = text[len(_SCHEME) :]
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    path = rest[end:]
    return Target(_host(rest[:end].encode()), path if path.startswith("/") else f"/{path}")


def _host(authority: bytes) -> str:
    """The host out of "host:port". Raises BadRequest."""
    try:
        text = authority.decode("ascii")
    except UnicodeDecodeError:
        _bad_host()
    if text.startswith("["):
        literal, bracket, port = text[1:].partition("]")
        if not bracket or "%" in literal or (port and not port.startswith(":")):
            _bad_host()
        host, port = literal, port[1:]
    else:
        host, _, port = text.partition(":")
    if port and not (port.isdigit() and len(port) <= 5):
        _bad_host()
    try:
        if text.startswith("["):
            return f"[{IPv6Address(host)}]"
        if _last_label_is_a_number(host):
            return str(IPv4Address(host))
        return canonical_name(host)
    except (InvalidName, ValueError):
        _bad_host()


def _last_label_is_a_number(host: str) -> bool:
    """Whether browsers read the host as an IPv4 address, in any of its odd spellings (WHATWG URL, "ends in a number").

    Only the ordinary one is taken: "127.1" and "0x7f000001" are refused.
    """
    label = host.removesuffix(".").rpartition(".")[2].lower()
    return label.isdigit() or (label.startswith("0x") and all(one in "0123456789abcdef" for one in label[2:]))


def _bad_host() -> NoReturn:
    raise BadRequest("bad_host", "the request's Host is no host name and no IP address")
