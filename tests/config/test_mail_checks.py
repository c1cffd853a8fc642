from __future__ import annotations

import pytest

from .conftest import Load, Problems

IMAP = '[[listeners]]\nname = "imap"\nbind = [":143"]\nprotocol = "imap"\ntls = "starttls"\nbackend = "b"\n'
SMTP = '[[listeners]]\nname = "mx"\nbind = [":25"]\nprotocol = "smtp"\ntls = "starttls"\nbackend = "b"\n'
WEB = '[[listeners]]\nname = "web"\nbind = [":443"]\nprotocol = "http"\nbackend = "b"\n'
BACKEND = '[backends.b]\nservers = ["127.0.0.1:10143"]\n'


@pytest.mark.parametrize(
    "text",
    [
        IMAP + BACKEND,
        IMAP + BACKEND + 'client_address = "imap-id"\ntls = "starttls"\ncheck = "tcp"\n',
        SMTP + BACKEND + 'client_address = "xclient"\ntls = "starttls"\ntls_name = "mail.internal"\n',
    ],
)
def test_mail_protocols_begin_tls_by_starttls_on_either_side(loaded: Load, text: str) -> None:
    assert loaded(text).listeners[0].tls == "starttls"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (WEB + 'tls = "starttls"\n' + BACKEND, "listeners[web].protocol", "needs a protocol that has it"),
        (
            IMAP + '[[listeners.routes]]\nhosts = ["a.example"]\naction = "passthrough"\n' + BACKEND,
            "listeners[imap].routes[0].action",
            '"passthrough" cannot be with tls = "starttls"',
        ),
        (IMAP + BACKEND + 'client_address = "xclient"\n', "backends.b.client_address", "is said in SMTP"),
        (SMTP + BACKEND + 'client_address = "imap-id"\n', "backends.b.client_address", "is said in IMAP"),
        (WEB + IMAP + BACKEND + 'client_address = "imap-id"\n', "backends.b.client_address", 'listener "web"'),
        (WEB + BACKEND + 'tls = "starttls"\n', "backends.b.tls", "is said in a mail protocol"),
        (IMAP + BACKEND + 'tls = "starttls"\ncheck = "tls"\n', "backends.b.check", "would begin with TLS"),
        (IMAP + BACKEND + 'tls_name = "a.example"\n', "backends.b.tls_name", 'without tls = "verify" or "starttls"'),
    ],
)
def test_what_no_protocol_could_say_is_refused_by_its_key(problems: Problems, text: str, key: str, words: str) -> None:
    (problem,) = problems(text)
    assert problem.key == key
    assert words in problem.message
