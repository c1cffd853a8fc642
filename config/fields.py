"""The types of the configuration's values: what a key takes from TOML, and what the model then holds.

Each type accepts the TOML form (a text, mostly) and also the finished value, so that code can build a model without
spelling everything as text. Validators raise ValueError with a sentence meant for the operator. Relative paths belong
to the file that says them: the loader passes an `Origin` as validation context, which knows the file of each key of
the table under validation; without one, they belong to the working directory.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import PlainSerializer, PlainValidator, StrictBool, ValidationInfo

from config.addresses import Address, TcpAddress, UnixAddress, parse_server, parse_tcp
from config.durations import checked_seconds, parse_duration
from config.hosts import canonical_host, canonical_pattern
from config.words import found, quoted, suggestion

WELCOME = "welcome"  # the built-in backend; never a table of [backends]
NAME_RULE = "letters, digits, dots, hyphens and underscores, starting with a letter or digit, 64 characters at most"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_ALPN = 255  # bytes; RFC 7301 section 3.1
_QUIC_ALPN = re.compile(r"h3(-[A-Za-z0-9]+)?")
_MAX_COUNT = 1_000_000_000
_MAX_PORT = 65535
_PIN_SIZE = 32  # bytes of a SHA-256
_BASE64_PIN_LENGTH = 44
_HEX_PIN = re.compile(r"[0-9A-Fa-f]{64}")
_REQUEST_PATH = re.compile(r"/[!-~]{0,2000}")  # RFC 9112 section 3.2.1: visible ASCII

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the table under validation stands: for each key it can have, the file that says it."""

    files: Mapping[str, Path]

    def directory(self, key: str) -> Path:
        """The absolute directory that relative paths of this key belong to."""
        return self.files[key].absolute().parent


def is_name(text: str) -> bool:
    """Whether the text can be the name of a listener or backend (NAME_RULE)."""
    return _NAME.fullmatch(text) is not None


def _base(info: ValidationInfo) -> Path:
    if isinstance(info.context, Origin) and info.field_name is not None:
        return info.context.directory(info.field_name)
    return Path.cwd()


def _text(value: object, wanted: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {wanted}, found {found(value)}")
    return value


def _name(value: object) -> str:
    text = _text(value, 'a name such as "web"')
    if not is_name(text):
        raise ValueError(f"{quoted(text)} is not a name; use {NAME_RULE}")
    return text


def _duration(value: object, info: ValidationInfo) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(info.context, Origin):
            raise ValueError(f'{found(value)} has no unit; write a text with one, such as "500ms", "10s" or "35m"')
        return checked_seconds(float(value), str(value))
    return parse_duration(_text(value, 'a duration such as "10s"'))


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return _base(info) / value
    text = _text(value, "a path")
    if not text or "\0" in text:
        raise ValueError("the path is empty or has a zero character; write the path of a file or directory")
    if text.startswith("~"):
        raise ValueError(f'{quoted(text)}: "~" is not expanded; write the whole path')
    return _base(info) / text


def _token_file(value: object) -> Path:
    text = str(value) if isinstance(value, Path) else _text(value, 'a file name such as "token"')
    if not text or "\0" in text:
        raise ValueError('the path is empty or has a zero character; write a file name such as "token"')
    return Path(text)


def _trust(value: object, info: ValidationInfo) -> Path | Literal["system"]:
    if value == "system":
        return "system"
    if isinstance(value, str) and "/" not in value and "." not in value and (hint := suggestion(value, ["system"])):
        raise ValueError(f'{quoted(value)} is not known{hint} (for a file of this name write "./{value}")')
    return _path(value, info)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, found {found(value)}")
    if value < 1:
        raise ValueError(f"{value} is too small; it must be 1 or more (leave the key out for its default)")
    if value > _MAX_COUNT:
        raise ValueError(f"{found(value)} is too large; it must be {_MAX_COUNT} or less")
    return value


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a port number, found {found(value)}")
    if not 1 <= value <= _MAX_PORT:
        raise ValueError(f"{found(value)} is no port number; it must be 1 to {_MAX_PORT}")
    return value


def _host(value: object) -> str:
    return canonical_host(_text(value, 'a host name such as "mail.example.com"'))


def _pattern(value: object) -> str:
    return canonical_pattern(_text(value, 'a host name such as "www.example.com" or "*.example.com"'))


def _alpn(value: object) -> str:
    text = _text(value, 'an ALPN protocol name such as "h2"')
    size = len(text.encode())
    if not 1 <= size <= _MAX_ALPN:
        raise ValueError(f"{quoted(text)} has {size} bytes; an ALPN protocol name has 1 to {_MAX_ALPN}")
    if _QUIC_ALPN.fullmatch(text):
        raise ValueError(
            f'{quoted(text)} is HTTP/3, which is spoken over QUIC (UDP) and not here; use "h2" and "http/1.1"'
        )
    return text


def _pin(value: object) -> str:
    """The digest in base64. "sha256/" may go before it, or "sha256//" as curl writes it; so may all be hexadecimal."""
    text = _text(value, "a public key pin")
    digits = text.removeprefix("sha256/")
    if len(digits) == _BASE64_PIN_LENGTH + 1 and digits != text:  # base64 itself may begin with "/"
        digits = digits.removeprefix("/")
    try:
        digest = bytes.fromhex(digits) if _HEX_PIN.fullmatch(digits) else base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != _PIN_SIZE:
        raise ValueError(
            f"{quoted(text)} is not a pin; write the SHA-256 of the public key in base64, as 'snigate certs show' does"
        )
    return base64.b64encode(digest).decode()


def _request_path(value: object) -> str:
    text = _text(value, 'a path such as "/health"')
    if _REQUEST_PATH.fullmatch(text) is None:
        raise ValueError(
            f'{quoted(text)} is not the path of a request; it starts with "/" and has no spaces, such as "/health"'
        )
    return text


def _status(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected an HTTP status such as 200, found {found(value)}")
    if not 200 <= value <= 599:
        raise ValueError(f"{found(value)} is not the status of an answer; it is 200 to 599")
    return value


def _network(value: object) -> Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    text = _text(value, 'a network such as "10.0.0.0/8"')
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        corrected = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{quoted(text)} is not a network; write one such as "10.0.0.0/8" or "fd00::/8"') from None
    raise ValueError(f'{quoted(text)} is an address inside a network; write the network itself, "{corrected}"')


def _tcp(value: object) -> TcpAddress:
    return value if isinstance(value, TcpAddress) else parse_tcp(_text(value, 'an address such as "127.0.0.1:443"'))


def _server(value: object, info: ValidationInfo) -> Address:
    if isinstance(value, TcpAddress | UnixAddress):
        return parse_server(str(value))
    return parse_server(_text(value, 'an address such as "127.0.0.1:143" or "unix:/run/imap"'), _base(info))


def _backend(value: object, info: ValidationInfo) -> str:
    if isinstance(value, TcpAddress | UnixAddress):
        return str(parse_server(str(value)))
    text = _text(value, 'a name from [backends] or an address such as "127.0.0.1:8080"')
    if is_address(text):
        return str(parse_server(text, _base(info)))
    return _name(text)


def is_address(backend: str) -> bool:
    """Whether a backend is given by its address, not by a name from [backends] (no name has ":" or "/")."""
    return ":" in backend or "/" in backend


Flag = StrictBool
Text = Annotated[str, PlainValidator(lambda value: _text(value, "a text"))]
Count = Annotated[int, PlainValidator(_count)]
Port = Annotated[int, PlainValidator(_port)]
Name = Annotated[str, PlainValidator(_name)]
Duration = Annotated[float, PlainValidator(_duration)]
AbsolutePath = Annotated[Path, PlainValidator(_path)]
TokenFile = Annotated[Path, PlainValidator(_token_file)]
TrustEntry = Annotated[Literal["system"] | Path, PlainValidator(_trust)]
Host = Annotated[str, PlainValidator(_host)]
HostPattern = Annotated[str, PlainValidator(_pattern)]
Pin = Annotated[str, PlainValidator(_pin)]
RequestPath = Annotated[str, PlainValidator(_request_path)]
Status = Annotated[int, PlainValidator(_status)]
AlpnName = Annotated[str, PlainValidator(_alpn)]
NetworkField = Annotated[Network, PlainValidator(_network)]
ListenAddress = Annotated[TcpAddress, PlainValidator(_tcp), PlainSerializer(str)]
ServerAddress = Annotated[TcpAddress | UnixAddress, PlainValidator(_server), PlainSerializer(str)]
BackendReference = Annotated[str, PlainValidator(_backend)]

Profile = Literal["modern", "intermediate", "old"]
Protocol = Literal["tcp", "http", "smtp", "imap", "pop3", "sieve", "http-redirect"]
ClientAddress = Literal["proxy-v2", "proxy-v1", "none", "xclient", "imap-id"]
