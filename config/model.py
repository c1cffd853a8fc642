"""The checked configuration: attribute names are the TOML keys, docs/configuration.md explains each of them.

Durations are seconds, paths are absolute, host names canonical (lower-case A-labels, no trailing dot), and nothing can
be changed afterwards. `config.load` makes a `Config` from files and checks what one table alone cannot tell, such as a
backend that does not exist. Code may also build the models directly, with TOML's forms or with finished values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_serializer, field_validator
from pydantic_core import PydanticKnownError

from config.addresses import TcpAddress, parse_server
from config.fields import (
    WELCOME,
    AbsolutePath,
    AlpnName,
    BackendReference,
    ClientAddress,
    Count,
    Duration,
    Flag,
    Host,
    HostPattern,
    ListenAddress,
    Name,
    NetworkField,
    Pin,
    Port,
    Profile,
    Protocol,
    RequestPath,
    ServerAddress,
    Status,
    Text,
    TokenFile,
    TrustEntry,
    is_address,
)

__all__ = [
    "MAIL_PROTOCOLS",
    "WELCOME",
    "AdminConfig",
    "BackendConfig",
    "CertificatesConfig",
    "Config",
    "ListenerConfig",
    "LogConfig",
    "MetricsConfig",
    "Profile",
    "Protocol",
    "RouteConfig",
    "ServerConfig",
    "TlsConfig",
]

MAIL_PROTOCOLS: frozenset[str] = frozenset({"smtp", "imap", "pop3", "sieve"})
HTTP_REDIRECT = "http-redirect"
FEWEST_HANDSHAKES = 100  # unfinished, that a worker has room for unless `max_handshakes` says otherwise
MAIL_IDLE_TIMEOUT = 35 * 60.0  # seconds; IMAP servers wait at least 30 minutes (RFC 3501 section 5.4), with a margin

# IANA's registry of ALPN protocol names; SMTP has none.
_REGISTERED_ALPN = {"imap": ("imap",), "pop3": ("pop3",), "sieve": ("managesieve",)}


class Table(BaseModel):
    """A TOML table: frozen, and with no keys but the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CertificatesConfig(Table):
    """[certificates]: where certificates are found, and how they are ranked."""

    directories: tuple[AbsolutePath, ...] = ()
    default: Host | None = None
    order: Literal["kerio", "unexpired-first"] = "kerio"
    trust: tuple[TrustEntry, ...] = ("system",)
    passphrase_files: tuple[AbsolutePath, ...] = ()
    rescan: Duration = 60.0


class TlsConfig(Table):
    """[tls]: what every listener starts from."""

    profile: Profile = "intermediate"
    ticket_key_lifetime: Duration = 12 * 3600.0


class ServerConfig(Table):
    """[server]: processes, limits and time-outs. None: not given, no limit."""

    workers: Count | None = None
    user: Text | None = None
    state_directory: AbsolutePath = Field(default_factory=lambda: Path.cwd() / "snigate-data")
    drain: Duration = 30.0
    predrain: Duration | None = None
    retire: Duration = 24 * 3600.0
    max_connections: Count = 20000
    max_connections_per_client: Count | None = None
    max_connection_rate_per_client: Count | None = None
    max_handshakes: Count | None = None
    preamble_timeout: Duration = 300.0
    handshake_timeout: Duration = 10.0
    idle_timeout: Duration = 30 * 60.0
    backend_connect_timeout: Duration = 5.0

    @property
    def most_handshakes(self) -> int:
        """How many unfinished handshakes a worker holds: what the file says, else a quarter of its connections."""
        return self.max_handshakes or _handshakes_among(self.max_connections)


def _handshakes_among(connections: int) -> int:
    return max(FEWEST_HANDSHAKES, connections // 4)


class AdminConfig(Table):
    """[admin]: the operator's address. In a `Config`, `token_file` is absolute (from the state directory)."""

    listen: ListenAddress = TcpAddress("127.0.0.1", 9180)
    token_file: TokenFile = Path("token")


class MetricsConfig(Table):
    """[metrics]: a second address, with only metrics and health."""

    listen: ListenAddress = Field(examples=["127.0.0.1:9181"])


class LogConfig(Table):
    """[log]: what is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    access: Flag = True


class BackendConfig(Table):
    """[backends.NAME]. `name` is the table's name, or the address itself for a backend given by its address.

    Whether the operator said `client_address` is in `model_fields_set`; SMTP insists on it. `tls_name` None: the
    server's host. A certificate with one of the keys of `tls_pin` is accepted whatever its chain and name.
    """

    name: str
    servers: tuple[ServerAddress, ...] = Field(min_length=1, examples=[["127.0.0.1:8080"]])
    balance: Literal["least-connections", "round-robin"] = "least-connections"
    client_address: ClientAddress = "proxy-v2"
    tls: Literal["off", "verify", "starttls"] = "off"
    tls_name: Host | None = None
    tls_ca: TrustEntry = "system"
    tls_pin: tuple[Pin, ...] = ()
    check: Literal["off", "tcp", "tls", "http"] = "off"
    check_interval: Duration = 5.0
    check_path: RequestPath = "/"
    check_status: tuple[Status, ...] = Field(default=(200,), min_length=1)


class RouteConfig(Table):
    """[[listeners.routes]]: what differs for some host names. None: as the listener (or [tls]) says."""

    hosts: tuple[HostPattern, ...] = Field(min_length=1, examples=[["www.example.com"]])
    match_alpn: tuple[AlpnName, ...] = ()
    backend: BackendReference | None = None
    action: Literal["terminate", "passthrough", "reject"] = "terminate"
    profile: Profile | None = None
    alpn: tuple[AlpnName, ...] | None = None
    client_auth: Literal["off", "optional", "required"] = "off"
    client_ca: AbsolutePath | None = None
    client_crl: AbsolutePath | None = None


def _registered_alpn(validated: dict[str, Any]) -> tuple[str, ...]:
    return _REGISTERED_ALPN.get(validated["protocol"], ())


class ListenerConfig(Table):
    """[[listeners]]: addresses to accept on, and where the connections go.

    `backend` is a key of `Config.backends` or WELCOME; None on an http-redirect listener, and only there. An absent
    `alpn` is the mail protocol's registered name, and empty (the extension is ignored) for the others. `default` None:
    that of [certificates]. Limits and time-outs None: those of [server], see `Config.handshake_timeout_of` and others.
    """

    name: Name = Field(examples=["web"])
    bind: tuple[ListenAddress, ...] = Field(min_length=1, examples=[[":443"]])
    protocol: Protocol = "tcp"
    tls: Literal["implicit", "starttls"] = "implicit"
    accept_proxy_from: tuple[NetworkField, ...] = ()
    alpn: tuple[AlpnName, ...] = Field(default_factory=_registered_alpn)
    strict_sni: Flag = False
    require_tls: Flag = True
    default: Host | None = None
    pin: tuple[Pin, ...] = ()
    backend: BackendReference | None = Field(default=None, validate_default=True, examples=["127.0.0.1:8080"])
    redirect_port: Port = 443
    acme_webroot: AbsolutePath | None = None
    acme_backend: BackendReference | None = None
    max_connections: Count | None = None
    max_connections_per_client: Count | None = None
    max_connection_rate_per_client: Count | None = None
    preamble_timeout: Duration | None = None
    handshake_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    routes: tuple[RouteConfig, ...] = ()

    @field_validator("backend", mode="before")
    @classmethod
    def _require_backend(cls, backend: object, info: ValidationInfo) -> object:
        if backend is None and info.data.get("protocol", HTTP_REDIRECT) != HTTP_REDIRECT:
            raise PydanticKnownError("missing")
        return backend

    @property
    def redirects(self) -> bool:
        """Whether the listener speaks plain HTTP and sends every client on to https: it has no backend."""
        return self.protocol == HTTP_REDIRECT

    @property
    def lets_plain_text_through(self) -> bool:
        """Whether what a client says without TLS reaches a backend. Sending it on to https is no such thing."""
        return self.tls == "starttls" and not self.require_tls

    @property
    def is_mail(self) -> bool:
        """Whether the listener speaks a mail protocol, where the server greets first."""
        return self.protocol in MAIL_PROTOCOLS

    @property
    def most_handshakes(self) -> int | None:
        """How many of a worker's unfinished handshakes may be this listener's, so that they do not fill it."""
        return None if self.max_connections is None else _handshakes_among(self.max_connections)

    @property
    def target(self) -> str:
        """Where its connections go, in a word: the backend's name, or "https" on an http-redirect listener."""
        return self.backend or "https"

    def backends_used(self) -> tuple[str, ...]:
        """The names of the backends that connections of this listener can reach, each once, its own first."""
        named = (self.backend, self.acme_backend, *(route.backend for route in self.routes))
        return tuple(dict.fromkeys(name for name in named if name is not None))


class Config(Table):
    """The whole configuration. `source` is the main file, None for the built-in defaults.

    `backends` also holds a backend for each address that a listener or route gives instead of a name, under the
    address as its key. "welcome" is never among them: it is built in.
    """

    certificates: CertificatesConfig = CertificatesConfig()
    tls: TlsConfig = TlsConfig()
    server: ServerConfig = Field(default_factory=ServerConfig)
    admin: AdminConfig = Field(default=AdminConfig(), validate_default=True)
    metrics: MetricsConfig | None = None
    log: LogConfig = LogConfig()
    listeners: tuple[ListenerConfig, ...] = ()
    backends: Mapping[str, BackendConfig] = Field(default={}, validate_default=True)
    source: Path | None = None
    _listener_files: tuple[Path, ...] = PrivateAttr(default=())

    @field_validator("admin")
    @classmethod
    def _place_token_file(cls, admin: AdminConfig, info: ValidationInfo) -> AdminConfig:
        if "server" not in info.data:
            return admin
        return admin.model_copy(update={"token_file": info.data["server"].state_directory / admin.token_file})

    @field_validator("backends")
    @classmethod
    def _add_backends_given_by_address(
        cls, backends: Mapping[str, BackendConfig], info: ValidationInfo
    ) -> Mapping[str, BackendConfig]:
        used = {name for listener in info.data.get("listeners", ()) for name in listener.backends_used()}
        added = {
            text: BackendConfig(name=text, servers=(parse_server(text),), client_address="none")
            for text in sorted(used - backends.keys())
            if is_address(text)
        }
        return MappingProxyType({**backends, **added})

    @field_serializer("backends")
    def _plain_backends(self, backends: Mapping[str, BackendConfig]) -> dict[str, BackendConfig]:
        return dict(backends)

    @classmethod
    def defaults(cls, base: Path) -> Config:
        """What runs without a file: the welcome page on 127.0.0.1:8443, state in `base`/snigate-data."""
        listener = ListenerConfig(name="web", bind=(TcpAddress("127.0.0.1", 8443),), protocol="http", backend=WELCOME)
        return cls(
            server=ServerConfig(state_directory=base.absolute() / "snigate-data"),
            listeners=(listener,),
        )

    def preamble_timeout_of(self, listener: ListenerConfig) -> float:
        """Seconds for what is said before TLS."""
        return self.server.preamble_timeout if listener.preamble_timeout is None else listener.preamble_timeout

    def handshake_timeout_of(self, listener: ListenerConfig) -> float:
        """Seconds for a handshake."""
        return self.server.handshake_timeout if listener.handshake_timeout is None else listener.handshake_timeout

    def idle_timeout_of(self, listener: ListenerConfig) -> float:
        """Seconds without traffic after which a connection ends: what the file says, else 30 minutes, mail 35."""
        if listener.idle_timeout is not None:
            return listener.idle_timeout
        if listener.is_mail and "idle_timeout" not in self.server.model_fields_set:
            return MAIL_IDLE_TIMEOUT
        return self.server.idle_timeout

    def from_files(self, source: Path, listener_files: tuple[Path, ...]) -> Config:
        """A copy that knows its main file and the file of each listener, for messages about them."""
        copy = self.model_copy(update={"source": source})
        copy._listener_files = listener_files
        return copy

    def file_of_listener(self, index: int) -> Path | None:
        """The file that declares the listener at this place; None for a configuration made without files."""
        return self._listener_files[index] if index < len(self._listener_files) else self.source
