from __future__ import annotations

import pytest

from proxy.starttls.conversation import ConversationError
from proxy.starttls.dialogue import MAX_COMMANDS, MAX_ERRORS, Farewell, Verdict
from proxy.starttls.opening import Introduction, Opened, Plan
from proxy.starttls.pop3 import COMMAND_CAP, POP3
from proxy.starttls.probe import Probed
from tests.support.mail import HANDSHAKE, NAME, Client, play, refused_behind, single_bytes

GREETING = b"+OK [XCLIENT] Dovecot ready. <1896.697170952@mail.internal>\r\n"
CAPA = (
    b"+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\nSTLS\r\nUSER\r\nSASL PLAIN\r\n.\r\n"
)
PROBED = play(POP3.probe("me"), (b"", GREETING), (b"CAPA\r\n", CAPA), ending=b"QUIT\r\n")
TLS_FIRST = b"-ERR [SYS/PERM] Passwords are taken under TLS only; say STLS first\r\n"
UNKNOWN = b"-ERR Before TLS there are CAPA, STLS and QUIT\r\n"
ALICE = Introduction(("192.0.2.7", 4711), ("2001:db8::1", 110), "id7", None, True)


def test_a_client_is_greeted_without_a_timestamp_and_led_to_tls() -> None:
    client = Client(POP3, PROBED)
    assert client.heard == b"+OK Dovecot ready.\r\n"
    assert client.says(b"CAPA\r\n") == (
        b"+OK Capabilities follow\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nAUTH-RESP-CODE\r\nSTLS\r\n.\r\n"
    )
    assert client.says(b"stls\r\n") == b"+OK Begin TLS negotiation now\r\n"
    assert client.verdict() is Verdict.TLS


@pytest.mark.parametrize(("probed", "text"), [(None, b"mx.example.com ready"), (Probed(b"", ()), b"ready")])
def test_without_a_probe_snigate_has_words_of_its_own(probed: Probed | None, text: bytes) -> None:
    client = Client(POP3, probed)
    assert client.heard == b"+OK " + text + b"\r\n"
    assert client.says(b"CAPA\r\n") == b"+OK Capabilities follow\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nSTLS\r\n.\r\n"


@pytest.mark.parametrize("command", [b"USER alice", b"PASS secret", b"APOP alice 0", b"AUTH", b"auth PLAIN AGEAYg=="])
def test_a_password_is_refused_before_tls(command: bytes) -> None:
    assert Client(POP3).says(command + b"\r\n") == TLS_FIRST


@pytest.mark.parametrize(
    "line", [b"", b"STAT", b"NOOP", b"STLS now", b"CAPA x", b"STLS\0", b"S\rTLS", b"\xff", b"GET / X"]
)
def test_anything_else_is_an_error(line: bytes) -> None:
    client = Client(POP3)
    assert client.says(line + b"\r\n") == UNKNOWN
    assert client.verdict() is Verdict.GO_ON


def test_a_client_may_leave() -> None:
    client = Client(POP3)
    assert client.says(b"QUIT\n") == b"+OK Bye\r\n"
    assert client.verdict() is Verdict.GOODBYE


def test_a_line_over_the_limit_is_an_error_and_the_next_one_is_read() -> None:
    client = Client(POP3)
    assert client.says(b"x" * 100_000) == b"-ERR Line too long\r\n"
    assert client.dialogue.held <= COMMAND_CAP
    assert client.says(b"\r\nUSER " + b"x" * (COMMAND_CAP - 7) + b"\r\n") == TLS_FIRST


@pytest.mark.parametrize("behind", [b"b", b"USER alice\r\n", b"\x16\x03\x01", b"\n"])
def test_what_follows_stls_in_the_same_bytes_is_an_attack(behind: bytes) -> None:
    assert refused_behind(POP3, b"STLS\r\n", behind) == b"-ERR Nothing may follow STLS before TLS, closing\r\n"


def test_too_many_errors_or_commands_end_the_session() -> None:
    client = Client(POP3)
    client.says(b"STAT\r\n" * (MAX_ERRORS - 1))
    assert client.says(b"STAT\r\n") == UNKNOWN + b"-ERR Too many errors, closing\r\n"
    assert client.verdict() is Verdict.SPOILT
    client = Client(POP3)
    assert client.says(b"CAPA\r\n" * 1000).count(b"+OK") == MAX_COMMANDS
    assert client.turn.answer.endswith(b".\r\n-ERR Too many commands, closing\r\n")


def test_pop3_has_no_plain_text() -> None:
    with pytest.raises(ValueError, match="POP3 before TLS"):
        Client(POP3, require_tls=False)
    with pytest.raises(ValueError, match="only an SMTP client"):
        POP3.opening(Plan("me", hello=b"EHLO x\r\n"))


def test_a_probe_finds_greeting_and_capabilities() -> None:
    assert PROBED.greeting == b"Dovecot ready."
    assert PROBED.capabilities[-2:] == (b"USER", b"SASL PLAIN")


def test_what_a_server_says_of_itself_cannot_be_taken_for_an_answer_to_the_next_command() -> None:
    capa = b"+OK\r\nTOP\r\n..\r\n.+OK Begin TLS\r\nUIDL\r\n.\r\n"
    script = ((b"", b"+OK hi <x<a@b.c>y@z>\r\n"), (b"CAPA\r\n", capa))
    client = Client(POP3, play(POP3.probe("me"), *script, ending=b"QUIT\r\n"))
    assert client.heard == b"+OK hi xy@z\r\n"
    assert client.says(b"CAPA\r\n") == (
        b"+OK Capabilities follow\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nSTLS\r\n.\r\n"
    )


def test_a_probe_takes_a_server_without_capa_and_one_that_stuffs_dots() -> None:
    old = ((b"", b"+OK\r\n"), *[(b"CAPA\r\n", b"-ERR what?\r\n")] * 2)
    assert play(POP3.probe("me"), *old, ending=b"QUIT\r\n") == Probed(b"", ())
    odd = ((b"", b"+ok hi\r\n"), (b"CAPA\r\n", b"+OK\r\n..X\r\nTO\0P\r\n\r\n.\r\n"))
    assert play(POP3.probe("me"), *odd, ending=b"QUIT\r\n", pieces=single_bytes) == Probed(b"hi", (b".X",))


def test_a_server_that_takes_the_proxy_header_for_a_command_is_found_out() -> None:
    script = ((b"", GREETING), (b"CAPA\r\n", b"-ERR what?\r\n"), (b"CAPA\r\n", CAPA))
    with pytest.raises(ConversationError, match='it answered CAPA with "-ERR what'):
        play(POP3.probe("me"), *script)


def test_after_the_clients_tls_the_greeting_is_swallowed() -> None:
    greeting = b"+OK Dovecot ready. <1896.697170952@mail.internal>\r\n"
    assert play(POP3.opening(Plan("me")), (b"", GREETING)) == Opened(greeting, b"")


def test_tls_begins_towards_the_backend() -> None:
    script = ((b"", GREETING), (b"STLS\r\n", b"+OK Begin\r\n"), (b"", HANDSHAKE))
    opened = play(POP3.opening(Plan("me", starttls=True)), *script, pieces=single_bytes)
    assert opened.after_starttls == b""
    asked = play(POP3.probe("me", starttls=True), *script, (b"CAPA\r\n", CAPA), ending=b"QUIT\r\n")
    assert asked == PROBED


def test_clients_are_not_told_of_since_they_could_say_the_same() -> None:
    with pytest.raises(ValueError, match="who the client is"):
        POP3.opening(Plan("me", introduction=ALICE))


@pytest.mark.parametrize(
    ("plan", "script", "words"),
    [
        (Plan("me"), [(b"", b"-ERR busy\r\n")], 'it greeted with "-ERR busy"'),
        (Plan("me"), [(b"", b"* OK IMAP\r\n")], 'it greeted with "* OK IMAP", which is not POP3'),
        (Plan("me"), [(b"", GREETING + b"+")], 'it said more than its greeting: "+"'),
        (
            Plan("me", starttls=True),
            [(b"", GREETING), (b"STLS\r\n", b"-ERR no\r\n")],
            'it answered STLS with "-ERR no"',
        ),
        (
            Plan("me", starttls=True),
            [(b"", GREETING), (b"STLS\r\n", b"+OK\r\n+OK\r\n")],
            'it said more than its answer to STLS: "+OK"',
        ),
    ],
)
def test_a_backend_that_is_not_welcoming_is_an_error_in_words(
    plan: Plan, script: list[tuple[bytes, bytes]], words: str
) -> None:
    with pytest.raises(ConversationError) as caught:
        play(POP3.opening(plan), *script)
    assert str(caught.value) == words


def test_farewells_are_pop3s_own() -> None:
    for why in Farewell:
        assert POP3.farewell(why, NAME).startswith(b"-ERR ")
