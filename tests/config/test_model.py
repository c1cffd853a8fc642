from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.addresses import TcpAddress, UnixAddress
from config.model import WELCOME, BackendConfig, Config, ListenerConfig, RouteConfig, ServerConfig

from .conftest import LISTENER, Load

WEB = TcpAddress(None, 443)


def listener(**keys: object) -> ListenerConfig:
    return ListenerConfig(**{"name": "web", "bind": (WEB,), "backend": WELCOME, **keys})


def test_the_defaults_are_those_of_the_design(loaded: Load, tmp_path: Path) -> None:
    config = loaded(LISTENER)
    server, certificates = config.server, config.certificates
    assert (certificates.directories, certificates.default, certificates.order) == ((), None, "kerio")
    assert (certificates.trust, certificates.passphrase_files, certificates.rescan) == (("system",), (), 60)
    assert config.tls.profile == "intermediate"
    assert (server.workers, server.user, server.max_connections_per_client) == (None, None, None)
    assert server.state_directory == tmp_path / "snigate-data"
    assert (server.drain, server.retire, server.max_connections) == (30, 86400, 20000)
    assert (server.preamble_timeout, server.handshake_timeout) == (300, 10)
    assert (server.idle_timeout, server.backend_connect_timeout) == (1800, 5)
    assert config.admin.listen == TcpAddress("127.0.0.1", 9180)
    assert config.admin.token_file == tmp_path / "snigate-data/token"
    assert config.metrics is None
    assert (config.log.level, config.log.format, config.log.access) == ("info", "text", True)
    assert config.source == tmp_path / "snigate.toml"


def test_a_listener_needs_only_name_bind_and_backend() -> None:
    web = listener()
    assert (web.protocol, web.tls, web.accept_proxy_from) == ("tcp", "implicit", ())
    assert (web.alpn, web.strict_sni, web.routes) == ((), False, ())


def test_a_route_takes_what_it_does_not_say_from_its_listener() -> None:
    route = RouteConfig(hosts=("Example.org",))
    assert (route.hosts, route.backend, route.profile, route.alpn) == (("example.org",), None, None, None)
    assert (route.action, route.client_auth, route.client_ca, route.match_alpn) == ("terminate", "off", None, ())


@pytest.mark.parametrize(
    ("protocol", "alpn"),
    [("imap", ("imap",)), ("pop3", ("pop3",)), ("sieve", ("managesieve",)), ("smtp", ()), ("tcp", ()), ("http", ())],
)
def test_an_absent_alpn_is_the_registered_name_of_the_mail_protocol(protocol: str, alpn: tuple[str, ...]) -> None:
    assert listener(protocol=protocol).alpn == alpn


def test_an_empty_alpn_stays_empty_on_a_mail_listener() -> None:
    assert listener(protocol="imap", alpn=[]).alpn == ()


def test_a_backend_given_by_its_address_becomes_a_backend_of_that_name() -> None:
    route = RouteConfig(hosts=("a.example",), backend="unix:/run/a")
    config = Config(listeners=(listener(backend="127.0.0.1:8080", routes=(route,)),))
    tcp, unix = TcpAddress("127.0.0.1", 8080), UnixAddress(Path("/run/a"))
    assert dict(config.backends) == {
        "127.0.0.1:8080": BackendConfig(name="127.0.0.1:8080", servers=(tcp,), client_address="none"),
        "unix:/run/a": BackendConfig(name="unix:/run/a", servers=(unix,), client_address="none"),
    }


def test_two_spellings_of_an_address_are_one_backend(loaded: Load, tmp_path: Path) -> None:
    routes = '[[listeners.routes]]\nhosts = ["a.example"]\nbackend = "{}"\n'
    config = loaded(LISTENER.replace("127.0.0.1", "[::1]") + routes.format("[0:0::1]:8080"))
    assert list(config.backends) == ["[::1]:8080"]
    config = loaded(LISTENER.replace("127.0.0.1:8080", "unix:run/a"))
    assert config.listeners[0].backend == f"unix:{tmp_path}/run/a"
    assert config.listeners[0].backend in config.backends


def test_the_backends_used_by_a_listener_are_named_once_its_own_first() -> None:
    routes = [RouteConfig(hosts=(f"{name}.example",), backend=name) for name in ("b", "a", "b")]
    assert listener(backend="a", routes=(RouteConfig(hosts=("x",)), *routes)).backends_used() == ("a", "b")


def test_a_listener_without_a_backend_cannot_be_made_but_for_redirects() -> None:
    with pytest.raises(ValidationError, match="required"):
        ListenerConfig(name="web", bind=(WEB,))
    assert ListenerConfig(name="plain", bind=(WEB,), protocol="http-redirect").backends_used() == ()


def test_mail_listeners_idle_for_35_minutes_unless_the_file_says_otherwise() -> None:
    web, imap = listener(), listener(protocol="imap")
    assert [Config().idle_timeout_of(each) for each in (web, imap)] == [1800, 2100]
    said = Config(server=ServerConfig(idle_timeout="30m"))
    assert [said.idle_timeout_of(each) for each in (web, imap)] == [1800, 1800]


def test_a_listeners_own_time_outs_go_before_the_servers_which_hold_for_the_others() -> None:
    config = Config(server=ServerConfig(preamble_timeout="1m", handshake_timeout="5s", idle_timeout="1h"))
    own = listener(protocol="smtp", preamble_timeout="2m", handshake_timeout="6s", idle_timeout="2h")
    times = [
        (config.preamble_timeout_of(one), config.handshake_timeout_of(one), config.idle_timeout_of(one))
        for one in (listener(), own)
    ]
    assert times == [(60, 5, 3600), (120, 6, 7200)]
    assert Config().idle_timeout_of(listener(protocol="imap", idle_timeout="5m")) == 300


@pytest.mark.parametrize(
    ("said", "most"),
    [({}, 5000), ({"max_connections": 1000}, 250), ({"max_connections": 10}, 100), ({"max_handshakes": 7}, 7)],
)
def test_a_quarter_of_the_connections_may_be_unfinished_unless_the_file_says_how_many(
    said: dict[str, int], most: int
) -> None:
    assert ServerConfig(**said).most_handshakes == most


def test_a_listeners_handshakes_are_bounded_where_its_connections_are() -> None:
    said = [listener(), listener(max_connections=2000), listener(max_connections=200)]
    assert [one.most_handshakes for one in said] == [None, 500, 100]


def test_mail_protocols_are_those_where_the_server_greets_first() -> None:
    assert [p for p in ("tcp", "http", "smtp", "imap", "pop3", "sieve") if listener(protocol=p).is_mail] == [
        "smtp",
        "imap",
        "pop3",
        "sieve",
    ]


def test_the_built_in_defaults_serve_the_welcome_page_on_loopback(tmp_path: Path) -> None:
    config = Config.defaults(tmp_path)
    (web,) = config.listeners
    assert (web.name, web.bind, web.backend) == ("web", (TcpAddress("127.0.0.1", 8443),), WELCOME)
    assert config.server.state_directory == tmp_path / "snigate-data"
    assert config.admin.token_file == tmp_path / "snigate-data/token"
    assert (config.certificates.directories, config.backends, config.source) == ((), {}, None)


def test_nothing_in_a_configuration_can_be_changed() -> None:
    config = Config.defaults(Path("/base"))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config.server, "drain", 1)  # noqa: B010 - mypy knows that it cannot be set
    with pytest.raises(TypeError):
        config.backends["x"] = BackendConfig(name="x", servers=("h:1",))  # type: ignore[index] # the point of the test


def test_an_absolute_token_file_stays_where_it_is(loaded: Load) -> None:
    assert loaded('[admin]\ntoken_file = "/run/token"\n' + LISTENER).admin.token_file == Path("/run/token")


def test_code_may_give_seconds_as_numbers_and_files_may_not() -> None:
    assert ServerConfig(handshake_timeout=0.25).handshake_timeout == 0.25
    with pytest.raises(ValidationError, match="longer than zero"):
        ServerConfig(handshake_timeout=0)


def test_relative_paths_without_a_file_belong_to_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert ServerConfig().state_directory == Path("/snigate-data")
    assert ServerConfig(state_directory="data").state_directory == Path("/data")


def test_a_configuration_prints_as_json_with_addresses_as_texts() -> None:
    dumped = json.loads(Config(listeners=(listener(backend="127.0.0.1:8080"),)).model_dump_json())
    assert dumped["listeners"][0]["bind"] == [":443"]
    assert dumped["backends"]["127.0.0.1:8080"]["servers"] == ["127.0.0.1:8080"]


@pytest.mark.parametrize("digest", [bytes(range(32)), b"\xff" * 32, bytes(32)])
def test_a_pin_may_be_spelt_in_several_ways_and_is_held_in_one(digest: bytes) -> None:
    pin = base64.b64encode(digest).decode()
    spellings = (pin, f"sha256/{pin}", f"sha256//{pin}", digest.hex(), digest.hex().upper(), f"sha256/{digest.hex()}")
    for spelling in spellings:
        assert listener(pin=(spelling,)).pin == (pin,)
