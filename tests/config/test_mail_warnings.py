from __future__ import annotations

from typing import Any

import pytest

from config.model import Config
from config.warnings import warnings

BACKEND = {"name": "postfix", "servers": ["127.0.0.1:10025"], "client_address": "proxy-v2"}


def mail(**said: object) -> Config:
    listener = {"name": "mx", "bind": [":587"], "protocol": "smtp", "tls": "starttls", "backend": "postfix", **said}
    return Config.model_validate({"listeners": [listener]})


def test_strict_sni_on_any_smtp_listener_with_starttls_is_warned_about() -> None:
    (warning,) = warnings(mail(strict_sni=True))
    assert warning.key == "listeners[mx].strict_sni"
    assert "by SMTP with STARTTLS" in warning.message
    assert warnings(mail(strict_sni=True, tls="implicit", bind=[":465"])) == []
    assert warnings(mail(strict_sni=True, protocol="imap")) == []


def test_every_listener_that_lets_plain_text_through_is_warned_about() -> None:
    (warning,) = warnings(mail(require_tls=False))
    assert warning.key == "listeners[mx].require_tls"
    assert "reaches the server in plain text" in warning.message
    assert warnings(mail(require_tls=True)) == []


def found(*listeners: dict[str, Any], **backend: Any) -> list[tuple[str, str]]:
    """Keys and messages of the warnings about these listeners, all with one backend."""
    named = [{"name": f"l{place}", "backend": "postfix", **one} for place, one in enumerate(listeners)]
    config = {"listeners": named, "backends": {"postfix": {**BACKEND, **backend}}}
    return [(one.key, one.message) for one in warnings(Config.model_validate(config))]


@pytest.mark.parametrize(
    ("bind", "tls", "protocol", "said"),
    [
        (
            ":143",
            "implicit",
            "imap",
            "clients begin TLS by STARTTLS on port 143, and cannot here",
        ),
        (":993", "starttls", "imap", 'clients begin TLS at once on port 993, and cannot here; say tls = "implicit"'),
        (":4190", "implicit", "sieve", "clients begin TLS by STARTTLS on port 4190"),
        (":465", "starttls", "smtp", "clients begin TLS at once on port 465"),
    ],
)
def test_a_port_where_clients_expect_the_other_way_to_begin_tls_is_warned_about(
    bind: str, tls: str, protocol: str, said: str
) -> None:
    ((key, message),) = found({"bind": [bind], "tls": tls, "protocol": protocol})
    assert key == "listeners[l0].tls"
    assert message.startswith(said)
    other = "starttls" if tls == "implicit" else "implicit"
    assert found({"bind": [bind], "tls": other, "protocol": protocol}) == []
    assert found({"bind": [":9999"], "tls": tls, "protocol": protocol}) == []


@pytest.mark.parametrize(
    ("listener", "servers", "said"),
    [
        ({"bind": [":465"]}, ["127.0.0.1:10025"], 'port 465 is one of SMTP\'s; say protocol = "smtp"'),
        ({"bind": [":9999"]}, ["127.0.0.1:25"], 'port 25 is one of SMTP\'s; say protocol = "smtp"'),
        (
            {"bind": [":993"], "protocol": "tcp"},
            ["h:10143"],
            'port 993 is one of IMAP\'s; say protocol = "imap"',
        ),
    ],
)
def test_mail_that_passes_as_some_stream_is_warned_about(
    listener: dict[str, Any], servers: list[str], said: str
) -> None:
    ((key, message),) = found(listener, servers=servers)
    assert key == "listeners[l0].protocol"
    assert message.startswith(said)
    assert ("relay mail for every stranger" in message) == ("SMTP" in said)
    assert found({"bind": [":443"]}, servers=["127.0.0.1:8080"]) == []


def test_smtp_straight_to_an_address_is_warned_about() -> None:
    config = {"listeners": [{"name": "x", "bind": [":9999"], "backend": "127.0.0.1:25"}]}
    (warning,) = warnings(Config.model_validate(config))
    assert warning.key == "listeners[x].protocol"


def test_a_backend_for_two_mail_protocols_is_warned_about() -> None:
    imap, pop3 = {"bind": [":993"], "protocol": "imap"}, {"bind": [":995"], "protocol": "pop3"}
    warned = found(imap, pop3)
    assert [key for key, _ in warned] == ["listeners[l0].backend", "listeners[l1].backend"]
    assert all("is used for imap and pop3, which no server speaks on one port" in message for _, message in warned)
    assert found(imap, {**imap, "bind": [":143"], "tls": "starttls"}) == []


def test_proxy_v1_towards_servers_that_take_passwords_under_tls_alone_is_warned_about() -> None:
    imap = {"bind": [":993"], "protocol": "imap"}
    ((key, message),) = found(imap, client_address="proxy-v1")
    assert key == "listeners[l0].backend"
    assert "disable_plaintext_auth" in message
    assert found({"bind": [":465"], "protocol": "smtp"}, client_address="proxy-v1") == []


def test_plain_text_that_a_server_takes_for_tls_is_warned_about() -> None:
    mx = {"bind": [":25"], "protocol": "smtp", "tls": "starttls", "require_tls": False}
    messages = [message for _, message in found(mx, tls="verify", tls_name="mx.internal")]
    assert len(messages) == 2
    assert "smtpd_sasl_auth_enable = no" in messages[1]
    assert len(found(mx)) == 1
