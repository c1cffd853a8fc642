from __future__ import annotations

import pytest

from proxy.starttls.conversation import ConversationError
from proxy.starttls.dialogue import MAX_COMMANDS, MAX_ERRORS, Farewell, Verdict
from proxy.starttls.imap import COMMAND_CAP, IMAP, TAG_CAP
from proxy.starttls.opening import Introduction, Opened, Plan
from proxy.starttls.probe import Probed
from tests.support.mail import HANDSHAKE, NAME, Client, play, refused_behind, single_bytes

GREETING = b"* OK [CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+ STARTTLS AUTH=PLAIN COMPRESS=DEFLATE] Dovecot ready.\r\n"
SAID = b"* CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+ STARTTLS AUTH=PLAIN COMPRESS=DEFLATE\r\nC OK done\r\n"
PROBED = play(IMAP.probe("me"), (b"", GREETING), (b"C CAPABILITY\r\n", SAID), ending=b"L LOGOUT\r\n")
CAPABILITIES = b"IMAP4rev1 SASL-IR ID LITERAL+ STARTTLS LOGINDISABLED"
TLS_FIRST = b" NO [PRIVACYREQUIRED] Passwords are taken under TLS only; say STARTTLS first\r\n"
UNKNOWN = b" BAD Before TLS there are CAPABILITY, ID, NOOP, STARTTLS and LOGOUT\r\n"
ALICE = Introduction(("192.0.2.7", 4711), ("198.51.100.1", 143), "id7", "imap.example.com", True)
ID = (
    b'I ID ("x-originating-ip" "192.0.2.7" "x-originating-port" "4711" "x-connected-ip" "198.51.100.1" '
    b'"x-connected-port" "143" "x-session-id" "id7" "x-client-transport" "TLS" '
    b'"x-connected-name" "imap.example.com")\r\n'
)


def test_a_client_is_greeted_and_led_to_tls() -> None:
    client = Client(IMAP, PROBED)
    assert client.heard == b"* OK [CAPABILITY " + CAPABILITIES + b"] Dovecot ready.\r\n"
    assert client.says(b"a1 CAPABILITY\r\n") == b"* CAPABILITY " + CAPABILITIES + b"\r\na1 OK Capability completed\r\n"
    assert client.says(b"a2 STARTTLS\r\n") == b"a2 OK Begin TLS negotiation now\r\n"
    assert client.verdict() is Verdict.TLS


@pytest.mark.parametrize(("probed", "text"), [(None, b"mx.example.com ready"), (Probed(b"", ()), b"Ready")])
def test_without_a_probe_snigate_has_words_of_its_own(probed: Probed | None, text: bytes) -> None:
    assert Client(IMAP, probed).heard == b"* OK [CAPABILITY IMAP4rev1 ID STARTTLS LOGINDISABLED] " + text + b"\r\n"


def test_what_does_no_harm_is_answered() -> None:
    client = Client(IMAP)
    assert client.says(b"1 NOOP\r\n") == b"1 OK NOOP completed\r\n"
    assert client.says(b'2 id ("name" "a mail program")\r\n') == b"* ID NIL\r\n2 OK ID completed\r\n"
    assert client.says(b"3 ID NIL\n") == b"* ID NIL\r\n3 OK ID completed\r\n"
    assert client.says(b"4 LOGOUT\r\n") == b"* BYE Logging out\r\n4 OK Logout completed\r\n"
    assert client.verdict() is Verdict.GOODBYE


@pytest.mark.parametrize("command", [b"LOGIN alice secret", b"AUTHENTICATE PLAIN", b"authenticate PLAIN AGEAYg=="])
def test_a_password_is_refused_before_tls(command: bytes) -> None:
    assert Client(IMAP).says(b"a " + command + b"\r\n") == b"a" + TLS_FIRST


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"a SELECT INBOX", b"a" + UNKNOWN),
        (b"a", b"a" + UNKNOWN),
        (b"a STARTTLS now", b"a BAD This command takes no arguments\r\n"),
        (b"a CAPABILITY x", b"a BAD This command takes no arguments\r\n"),
        (b"a NOOP x", b"a BAD This command takes no arguments\r\n"),
        (b"a LOGOUT x", b"a BAD This command takes no arguments\r\n"),
        (b"a ID", b"a BAD ID needs a list, or NIL\r\n"),
        (b"", b"* BAD A command begins with a tag\r\n"),
        (b" NOOP", b"* BAD A command begins with a tag\r\n"),
        (b"+ NOOP", b"* BAD A command begins with a tag\r\n"),
        (b"a\x1b[2J NOOP", b"* BAD A command begins with a tag\r\n"),
        (b"a\rb NOOP", b"* BAD A command begins with a tag\r\n"),
        (b'"a" NOOP', b"* BAD A command begins with a tag\r\n"),
        (b"\xe9 NOOP", b"* BAD A command begins with a tag\r\n"),
        (b"x" * (TAG_CAP + 1) + b" NOOP", b"* BAD A command begins with a tag\r\n"),
        (b"GET / HTTP/1.1", b"GET" + UNKNOWN),
    ],
)
def test_a_malformed_command_is_an_error_and_only_a_proper_tag_is_said_back(line: bytes, answer: bytes) -> None:
    client = Client(IMAP)
    assert client.says(line + b"\r\n") == answer
    assert client.verdict() is Verdict.GO_ON


def test_the_longest_tag_is_said_back() -> None:
    tag = b"x" * TAG_CAP
    assert Client(IMAP).says(tag + b" NOOP\r\n") == tag + b" OK NOOP completed\r\n"


def test_the_literals_of_id_are_invited() -> None:
    client = Client(IMAP)
    assert client.says(b'a ID ("name" {5}\r\n') == b"+ Ready for more\r\n"
    assert client.says(b'a\r\n"b {2}\r\n') == b"+ Ready for more\r\n"
    assert client.says(b"{}") == b""
    assert client.says(b")\r\n") == b"* ID NIL\r\na OK ID completed\r\n"


def test_a_password_in_a_literal_is_not_invited_but_refused_at_once() -> None:
    client = Client(IMAP)
    assert client.says(b"a LOGIN {5}\r\n") == b"a" + TLS_FIRST
    assert client.says(b"b STARTTLS {3}\r\n") == b"b BAD This command takes no arguments\r\n"
    assert client.says(b"c NOOP\r\n") == b"c OK NOOP completed\r\n"


def test_a_password_that_comes_uninvited_is_never_taken_for_a_command() -> None:
    client = Client(IMAP)
    assert client.says(b"a LOGIN {10+}\r\nx STARTTLS {6+}\r\n") == b""
    assert client.says(b"secret\r\n") == b"a" + TLS_FIRST
    assert client.says(b"b NOOP\r\n") == b"b OK NOOP completed\r\n"


def test_a_literal_over_the_limit_is_refused_or_ends_the_session() -> None:
    client = Client(IMAP)
    assert client.says(b"a ID ({9000}\r\n") == b"a BAD Command too long\r\n"
    assert client.verdict() is Verdict.GO_ON
    assert client.says(b"b ID ({99999999999999999999+}\r\n") == b"* BYE A literal is too long\r\n"
    assert client.verdict() is Verdict.SPOILT


def test_a_line_over_the_limit_is_an_error_under_its_tag_and_the_next_one_is_read() -> None:
    client = Client(IMAP)
    assert client.says(b"a ID " + b"x" * 100_000) == b"a BAD Command too long\r\n"
    assert client.dialogue.held <= COMMAND_CAP
    assert client.says(b"\r\nb NOOP\r\n") == b"b OK NOOP completed\r\n"
    assert client.says(b"x" * 9000 + b"\r\n") == b"* BAD Command too long\r\n"


@pytest.mark.parametrize("behind", [b"b", b"b LOGIN a b\r\n", b"\x16\x03\x01", b"\n"])
def test_what_follows_starttls_in_the_same_bytes_is_an_attack(behind: bytes) -> None:
    answer = b"a BAD Nothing may follow STARTTLS before TLS\r\n* BYE Closing\r\n"
    assert refused_behind(IMAP, b"a STARTTLS\r\n", behind) == answer


def test_too_many_errors_or_commands_end_the_session() -> None:
    client = Client(IMAP)
    client.says(b"a LOGIN {1}\r\n" * (MAX_ERRORS - 1))
    assert client.verdict() is Verdict.GO_ON
    assert client.says(b"b LOGIN a b\r\n") == b"b" + TLS_FIRST + b"* BYE Too many errors\r\n"
    client = Client(IMAP)
    assert client.says(b"a NOOP\r\n" * 1000).count(b"\r\n") == MAX_COMMANDS + 1
    assert client.turn.answer.endswith(b"* BYE Too many commands\r\n")


def test_imap_has_no_plain_text() -> None:
    with pytest.raises(ValueError, match="IMAP before TLS"):
        Client(IMAP, require_tls=False)
    with pytest.raises(ValueError, match="only an SMTP client"):
        IMAP.opening(Plan("me", hello=b"EHLO x\r\n"))


def test_a_probe_asks_for_the_capabilities() -> None:
    capabilities = (b"IMAP4rev1", b"AUTH=PLAIN")
    asked = b"* OK [ALERT] hello\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nC OK done\r\n"
    assert PROBED.greeting == b"Dovecot ready."
    assert PROBED.capabilities[:3] == (b"IMAP4rev1", b"SASL-IR", b"ID")
    assert play(
        IMAP.probe("me"), (b"", b"* OK Cyrus\r\n"), (b"C CAPABILITY\r\n", asked), ending=b"L LOGOUT\r\n"
    ) == Probed(b"Cyrus", capabilities)
    assert play(
        IMAP.probe("me"), (b"", b"* OK\r\n"), (b"C CAPABILITY\r\n", asked), ending=b"L LOGOUT\r\n", pieces=single_bytes
    ) == Probed(b"", capabilities)


def test_a_server_that_takes_the_proxy_header_for_a_command_is_found_out() -> None:
    misled = b"* BAD Error in IMAP command received by server.\r\n* CAPABILITY IMAP4rev1\r\nC OK done\r\n"
    with pytest.raises(ConversationError, match=r'it answered CAPABILITY with "\* BAD Error'):
        play(IMAP.probe("me"), (b"", GREETING), (b"C CAPABILITY\r\n", misled))


def test_after_the_clients_tls_the_greeting_is_swallowed() -> None:
    assert play(IMAP.opening(Plan("me")), (b"", GREETING)) == Opened(b"* OK Dovecot ready.\r\n", b"")


def test_tls_begins_towards_the_backend_and_the_client_is_introduced_inside_it() -> None:
    answered = b'* ID ("name" {7}\r\nDovecot)\r\nI OK ID completed.\r\n'
    opened = play(
        IMAP.opening(Plan("me", starttls=True, introduction=ALICE)),
        (b"", GREETING),
        (b"S STARTTLS\r\n", b"S OK Begin TLS negotiation now.\r\n"),
        (b"", HANDSHAKE),
        (ID, answered),
        pieces=single_bytes,
    )
    assert opened == Opened(b"* OK Dovecot ready.\r\n", b"")


def test_an_introduction_is_written_as_strings_whatever_is_in_it() -> None:
    odd = Introduction(("::ffff:192.0.2.7", 1), ("fe80::1%2", 2), 'a"\\\r\nb', None, False)
    said = (
        b'I ID ("x-originating-ip" "192.0.2.7" "x-originating-port" "1" "x-connected-ip" "fe80::1" '
        b'"x-connected-port" "2" "x-session-id" "a\\"\\\\?b" "x-client-transport" "insecure")\r\n'
    )
    play(IMAP.opening(Plan("me", introduction=odd)), (b"", GREETING), (said, b"I OK\r\n"))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([(b"", b"* BYE busy\r\n")], 'it greeted with "* BYE busy"'),
        ([(b"", b"* PREAUTH welcome\r\n")], 'it greeted with "* PREAUTH welcome", so whoever connects is logged in'),
        ([(b"", b"220 mail ESMTP\r\n")], 'it greeted with "220 mail ESMTP", which is not IMAP'),
        ([(b"", GREETING + b"* BYE\r\n")], 'it said more than its greeting: "* BYE"'),
        ([(b"", GREETING), (b"S STARTTLS\r\n", b"S BAD no\r\n")], 'it answered STARTTLS with "S BAD no"'),
        ([(b"", GREETING), (b"S STARTTLS\r\n", b"* BYE\r\n")], 'it answered STARTTLS with "* BYE"'),
        ([(b"", GREETING), (b"S STARTTLS\r\n", b"+ go\r\n")], 'it answered STARTTLS with "+ go"'),
        (
            [(b"", GREETING), (b"S STARTTLS\r\n", b"S OK go\r\n* CAPABILITY X\r\n")],
            'it said more than its answer to STARTTLS: "* CAPABILITY X"',
        ),
        ([(b"", b"* OK {9999}\r\n")], "a literal in its greeting is longer than 8192 bytes"),
        (
            [(b"", GREETING), (b"S STARTTLS\r\n", b"* x\r\n" * 20_000)],
            "it said more than 65536 bytes before its answer to STARTTLS was complete",
        ),
    ],
)
def test_a_backend_that_is_not_welcoming_is_an_error_in_words(script: list[tuple[bytes, bytes]], words: str) -> None:
    with pytest.raises(ConversationError) as caught:
        play(IMAP.opening(Plan("me", starttls=True)), *script)
    assert str(caught.value) == words


def test_a_backend_that_will_not_know_the_client_is_not_used() -> None:
    with pytest.raises(ConversationError, match='it answered ID with "I BAD no"'):
        play(IMAP.opening(Plan("me", introduction=ALICE)), (b"", GREETING), (ID, b"I BAD no\r\n"))


def test_farewells_are_imaps_own() -> None:
    for why in Farewell:
        assert IMAP.farewell(why, NAME).startswith(b"* BYE ")


def test_a_probe_by_starttls_asks_inside_tls() -> None:
    told = b"* CAPABILITY IMAP4rev1 X-INSIDE\r\nC OK\r\n"
    script = ((b"", GREETING), (b"S STARTTLS\r\n", b"S OK go\r\n"), (b"", HANDSHAKE), (b"C CAPABILITY\r\n", told))
    assert play(IMAP.probe("me", starttls=True), *script, ending=b"L LOGOUT\r\n").capabilities == (
        b"IMAP4rev1",
        b"X-INSIDE",
    )


def test_literals_count_as_commands() -> None:
    client = Client(IMAP)
    answer = client.says(b"a ID {0}\r\n" + b"{0}\r\n" * 1000)
    assert answer.count(b"+ Ready") == MAX_COMMANDS
    assert answer.endswith(b"* BYE Too many commands\r\n")
    assert client.verdict() is Verdict.SPOILT
