from __future__ import annotations

import platform

import pytest

from config.model import Config
from proxy.mail import MailService, mail_services
from proxy.starttls.dialogue import Farewell, Verdict
from proxy.starttls.opening import Opened
from proxy.starttls.probe import Probed
from proxy.starttls.protocols import PROTOCOLS

OPENED = Opened(b"220 hello\r\n", b"OK capabilities\r\n")


def config(**certificates: str) -> Config:
    listeners = [
        {"name": "mx", "bind": [":25"], "protocol": "smtp", "tls": "starttls", "require_tls": False, "backend": "b"},
        {"name": "imaps", "bind": [":993"], "protocol": "imap", "backend": "b", "default": "imap.example.com"},
        {"name": "web", "bind": [":443"], "backend": "b"},
    ]
    backends = {"b": {"name": "b", "servers": ["127.0.0.1:25"], "client_address": "none"}}
    return Config.model_validate({"listeners": listeners, "backends": backends, "certificates": certificates})


def test_mail_listeners_alone_have_a_service() -> None:
    services = mail_services(config())
    assert {name: one.protocol.name for name, one in services.items()} == {"mx": "smtp", "imaps": "imap"}
    assert (services["mx"].starttls, services["imaps"].starttls) == (True, False)


def test_the_name_is_the_listeners_default_or_that_of_all_or_the_hosts() -> None:
    services = mail_services(config(default="mail.example.com"))
    assert (services["mx"].name, services["imaps"].name) == ("mail.example.com", "imap.example.com")
    assert mail_services(config())["mx"].name == platform.node()


def test_clients_are_told_what_was_probed_last() -> None:
    service = MailService(PROTOCOLS["smtp"], "mx.example.com", starttls=True, require_tls=True)
    own = service.dialogue().receive(b"EHLO client\r\n").answer
    assert b"SIZE" not in own
    service.probed(Probed(b"ready", (b"SIZE 1000", b"AUTH PLAIN")))
    told = service.dialogue()
    assert told.greeting == b"220 mx.example.com ready\r\n"
    answer = told.receive(b"EHLO client\r\n").answer
    assert b"250-SIZE 1000\r\n" in answer
    assert b"AUTH" not in answer


@pytest.mark.parametrize(("require_tls", "verdict"), [(True, Verdict.GO_ON), (False, Verdict.PLAIN)])
def test_require_tls_holds_for_every_dialogue(require_tls: bool, verdict: Verdict) -> None:
    service = MailService(PROTOCOLS["smtp"], "mx.example.com", starttls=True, require_tls=require_tls)
    assert service.dialogue().receive(b"MAIL FROM:<a@b.example>\r\n").verdict is verdict


@pytest.mark.parametrize(("starttls", "words"), [(True, OPENED.after_starttls), (False, OPENED.greeting)])
def test_a_client_hears_of_its_server_what_it_has_not_heard_from_snigate(starttls: bool, words: bytes) -> None:
    service = MailService(PROTOCOLS["sieve"], "mx.example.com", starttls=starttls, require_tls=True)
    assert service.client().greeted is starttls
    assert service.heard(OPENED) == words
    assert service.heard(None) == b""


@pytest.mark.parametrize(
    ("protocol", "beginning"), [("smtp", b"421 "), ("imap", b"* BYE "), ("pop3", b"-ERR "), ("sieve", b"BYE ")]
)
@pytest.mark.parametrize("why", Farewell)
def test_farewells_are_one_line_in_the_protocols_words(protocol: str, beginning: bytes, why: Farewell) -> None:
    words = MailService(PROTOCOLS[protocol], "mx.example.com", starttls=True, require_tls=True).farewell(why)
    assert words.startswith(beginning)
    assert words.index(b"\r\n") == len(words) - 2
