"""Addresses to listen on and to connect to: TCP as "host:port", Unix sockets as "unix:/path"."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from config.hosts import canonical_host
from config.words import quoted

_MAX_PORT = 65535
_MAX_UNIX_PATH = 107  # bytes; sockaddr_un.sun_path on Linux holds 108 with the closing zero (unix(7))
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP address. `host` None is every address, v4 and v6; an IPv6 address has no brackets. `port` 0 to 65535."""

    host: str | None
    port: int

    def __str__(self) -> str:
        if self.host is None:
            return f":{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A stream socket in the file system, at an absolute path."""

    path: Path

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


Address = TcpAddress | UnixAddress


def parse_tcp(text: str) -> TcpAddress:
    """ ":443", "127.0.0.1:443", "[::1]:443" or "host.example:443"; IP addresses and names in canonical form.

    Port 0 is taken: the system then picks a free port for a listening socket. Raises ValueError.
    """
    if text.startswith(_UNIX):
        raise ValueError(f'{quoted(text)} is a Unix socket, but a TCP address such as "127.0.0.1:443" is wanted here')
    host, colon, port_text = text.rpartition(":")
    if not colon and port_text.isdecimal():
        raise ValueError(f'{quoted(text)} is no address; write ":{text[:5]}" for this port on every address')
    if not colon or port_text.endswith("]"):
        raise ValueError(f'{quoted(text)} has no port; write it as host:port, such as "127.0.0.1:443"')
    port = _port(port_text, text)
    if host == "*":
        raise ValueError(f'{quoted(text)}: leave the "*" out; ":{port}" is every address, v4 and v6')
    return TcpAddress(_host(host, text) if host else None, port)


def parse_unix(text: str, base: Path | None = None) -> UnixAddress:
    """ "unix:/run/imap"; a relative path belongs to `base` (absent: the working directory). Raises ValueError."""
    name = text.removeprefix(_UNIX)
    if name == text or not name or "\0" in name:
        raise ValueError(f'{quoted(text)} is not a Unix socket; write it as "unix:/run/backend.sock"')
    path = (base or Path.cwd()) / name
    if len(os.fsencode(path)) > _MAX_UNIX_PATH:
        raise ValueError(f"{quoted(text)} is too long; the path of a Unix socket has at most {_MAX_UNIX_PATH} bytes")
    return UnixAddress(path)


def parse_server(text: str, base: Path | None = None) -> Address:
    """The address of a backend's server, TCP or Unix: it needs a host, and a port other than 0. Raises ValueError."""
    if text.startswith(_UNIX):
        return parse_unix(text, base)
    if "/" in text:
        raise ValueError(f'{quoted(text)} is not an address; a Unix socket is written "unix:/run/backend.sock"')
    address = parse_tcp(text)
    if address.host is None:
        raise ValueError(f'{quoted(text)} has no host to connect to; write for example "127.0.0.1:{address.port}"')
    if address.port == 0:
        raise ValueError(f"{quoted(text)}: nothing can be reached on port 0; write the server's port")
    return address


def _port(port: str, text: str) -> int:
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= _MAX_PORT):
        raise ValueError(f"{quoted(text)}: the port must be a number up to {_MAX_PORT}, found {quoted(port)}")
    return int(port)


def _host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"{quoted(text)}: {quoted(host[1:-1])} is not an IPv6 address") from None
    if ":" in host:
        raise ValueError(f'{quoted(text)}: an IPv6 address goes into brackets, such as "[::1]:443"')
    if host.rpartition(".")[2].isdecimal():
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{quoted(text)}: {quoted(host)} is not an IPv4 address") from None
    try:
        return canonical_host(host)
    except ValueError as error:
        raise ValueError(f"{quoted(text)}: {error}") from None
