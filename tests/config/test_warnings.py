from __future__ import annotations

from pathlib import Path

from config.model import Config
from config.warnings import warnings

from .conftest import LISTENER, Load

MX = """
[backends.postfix]
servers = ["h:25"]
client_address = "proxy-v2"
[[listeners]]
name = "mx"
bind = [":465", "127.0.0.1:25"]
protocol = "smtp"
backend = "postfix"
strict_sni = {strict}
"""


def test_strict_sni_on_port_25_is_warned_about_with_the_file_that_says_it(loaded: Load, tmp_path: Path) -> None:
    config = loaded('include = ["mx.toml"]\n' + LISTENER, **{"mx.toml": MX.format(strict="true")})
    (warning,) = warnings(config)
    assert (warning.key, warning.file) == ("listeners[mx].strict_sni", tmp_path / "mx.toml")


def test_a_listener_on_port_25_without_strict_sni_is_fine(loaded: Load) -> None:
    assert warnings(loaded(MX.format(strict="false"))) == []


def test_strict_sni_on_other_ports_is_fine(loaded: Load) -> None:
    assert warnings(loaded(LISTENER + "strict_sni = true\n")) == []


MEMBERS = """
[[listeners.routes]]
hosts = ["members.example.com"]
client_auth = "required"
client_ca = "ca.pem"
"""
OWN = 'backend = "127.0.0.1:9"\n'


def test_what_demands_a_certificate_and_is_reached_without_one_too_is_warned_about(loaded: Load) -> None:
    (inherited,) = warnings(loaded(LISTENER + MEMBERS))
    assert inherited.key == "listeners[web].routes[0].client_auth"
    assert "can be reached without a certificate too" in inherited.message
    (shared,) = warnings(loaded(LISTENER + MEMBERS + OWN + '[[listeners.routes]]\nhosts = ["b.example"]\n' + OWN))
    assert shared.key == "listeners[web].routes[0].client_auth"
    assert warnings(loaded(LISTENER + MEMBERS + OWN)) == []
    rejecting = '[[listeners.routes]]\nhosts = ["b.example"]\naction = "reject"\n'
    assert warnings(loaded(LISTENER + MEMBERS + OWN + rejecting)) == []


def test_a_demand_that_another_protocol_evades_is_warned_about(loaded: Load) -> None:
    by_alpn = MEMBERS + OWN + 'match_alpn = ["h2"]\n'
    (evaded,) = warnings(loaded(LISTENER + by_alpn))
    assert evaded.key == "listeners[web].routes[0].match_alpn"
    assert warnings(loaded(LISTENER + by_alpn + MEMBERS + OWN)) == []


def test_sending_clients_on_to_https_lets_no_plain_text_through() -> None:
    config = Config.model_validate({"listeners": [{"name": "plain", "bind": [":80"], "protocol": "http-redirect"}]})
    assert warnings(config) == []


def test_a_listeners_limit_that_the_servers_comes_before_is_warned_about(loaded: Load) -> None:
    (warning,) = warnings(loaded("[server]\nmax_connections = 100\n" + LISTENER + "max_connections = 101\n"))
    assert warning.key == "listeners[web].max_connections"
    assert warning.message == (
        "101 is never reached, since server.max_connections (100) comes first; lower it, or raise that"
    )
    assert warnings(loaded("[server]\nmax_connections = 100\n" + LISTENER + "max_connections = 100\n")) == []


def test_a_limit_for_a_client_beyond_all_there_is_is_warned_about(loaded: Load) -> None:
    own = "max_connections = 50\nmax_connections_per_client = {}\n"
    (warning,) = warnings(loaded(LISTENER + own.format(51)))
    assert warning.key == "listeners[web].max_connections_per_client"
    assert "51 is never reached, since this listener's max_connections (50) comes first" in warning.message
    assert warnings(loaded(LISTENER + own.format(50))) == []
    (alone,) = warnings(loaded(LISTENER + "max_connections_per_client = 20001\n"))
    assert "since server.max_connections (20000) comes first" in alone.message


def test_limits_of_the_server_beyond_its_connections_are_warned_about(loaded: Load, tmp_path: Path) -> None:
    text = "[server]\nmax_connections = 10\nmax_connections_per_client = 11\nmax_handshakes = 11\n"
    found = warnings(loaded(text + LISTENER))
    assert [one.key for one in found] == ["server.max_connections_per_client", "server.max_handshakes"]
    assert {one.file for one in found} == {tmp_path / "snigate.toml"}


def test_handshakes_that_may_take_all_the_room_are_warned_about(loaded: Load) -> None:
    text = "[server]\nmax_connections = 300\nmax_handshakes = {}\n" + LISTENER
    (warning,) = warnings(loaded(text.format(300)))
    assert warning.message == (
        "300 that stall take all the room of server.max_connections (300), and nobody is let in; "
        "lower it, or raise that"
    )
    assert warnings(loaded(text.format(299))) == []
