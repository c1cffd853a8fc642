from __future__ import annotations

import pytest

from proxy.starttls.conversation import ConversationError
from proxy.starttls.dialogue import MAX_COMMANDS, MAX_ERRORS, Farewell, Verdict
from proxy.starttls.opening import Introduction, Opened, Plan
from proxy.starttls.probe import Probed
from proxy.starttls.sieve import COMMAND_CAP, ECHO_CAP, SIEVE
from tests.support.mail import HANDSHAKE, NAME, Client, play, refused_behind, single_bytes

KEPT = b'"IMPLEMENTATION" "Dovecot Pigeonhole"\r\n"SIEVE" "fileinto reject"\r\n"NOTIFY" "mailto"\r\n'
GREETING = KEPT + b'"SASL" "PLAIN"\r\n"STARTTLS"\r\n"VERSION" "1.0"\r\n"XCLIENT"\r\nOK "Dovecot ready."\r\n'
SECURED = KEPT + b'"SASL" "PLAIN LOGIN"\r\n"VERSION" "1.0"\r\n"XCLIENT"\r\nOK "TLS negotiation successful."\r\n'
PROBED = play(SIEVE.probe("me"), (b"", GREETING), (b"CAPABILITY\r\n", GREETING), ending=b"LOGOUT\r\n")
BEFORE_TLS = KEPT + b'"VERSION" "1.0"\r\n"SASL" ""\r\n"STARTTLS"\r\n'
TLS_FIRST = b'NO (ENCRYPT-NEEDED) "Passwords are taken under TLS only; say STARTTLS first"\r\n'
UNKNOWN = b'NO "Before TLS there are CAPABILITY, NOOP, STARTTLS and LOGOUT"\r\n'
NO_ARGUMENTS = b'NO "This command takes no arguments"\r\n'
NO_ECHO = b'NO "NOOP takes one short string"\r\n'
ALICE = Introduction(("192.0.2.7", 4711), ("198.51.100.1", 4190), "id7", None, True)


def test_a_client_is_greeted_with_capabilities_and_led_to_tls() -> None:
    client = Client(SIEVE, PROBED)
    assert client.heard == BEFORE_TLS + b'OK "mx.example.com ready"\r\n'
    assert client.says(b"Capability\r\n") == BEFORE_TLS + b'OK "Capability completed"\r\n'
    assert client.says(b"STARTTLS\r\n") == b'OK "Begin TLS negotiation now"\r\n'
    assert client.verdict() is Verdict.TLS


@pytest.mark.parametrize("probed", [None, Probed(b"", ())])
def test_without_a_probe_snigate_has_words_of_its_own(probed: Probed | None) -> None:
    assert Client(SIEVE, probed).heard == (
        b'"IMPLEMENTATION" "snigate"\r\n"SIEVE" ""\r\n"VERSION" "1.0"\r\n"SASL" ""\r\n"STARTTLS"\r\n'
        b'OK "mx.example.com ready"\r\n'
    )


def test_a_noop_says_its_string_back() -> None:
    client = Client(SIEVE)
    assert client.says(b"NOOP\r\n") == b'OK "NOOP completed"\r\n'
    assert client.says(b'NOOP "a tag"\r\n') == b'OK (TAG "a tag") "NOOP completed"\r\n'
    assert client.says(b'noop "\\"\\\\"\r\n') == b'OK (TAG "\\"\\\\") "NOOP completed"\r\n'
    assert client.says(b'NOOP {3+}\r\na"b\r\n') == b'OK (TAG "a\\"b") "NOOP completed"\r\n'
    assert client.says(b'NOOP "b\xc3\xbccher"\r\n') == b'OK (TAG "b\xc3\xbccher") "NOOP completed"\r\n'


@pytest.mark.parametrize(
    "argument",
    [
        b"bare",
        b'"open',
        b'"one" "two"',
        b'"\x1b[2J"',
        b'"\xff"',
        b'"a\rb"',
        b"{4+}\r\na\r\nb",
        b'"' + b"x" * (ECHO_CAP + 1) + b'"',
    ],
)
def test_a_noop_does_not_say_back_what_is_no_short_text(argument: bytes) -> None:
    assert Client(SIEVE).says(b"NOOP " + argument + b"\r\n") == NO_ECHO


def test_a_client_may_leave() -> None:
    client = Client(SIEVE)
    assert client.says(b"LOGOUT\r\n") == b'OK "Logout completed"\r\n'
    assert client.verdict() is Verdict.GOODBYE


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b'AUTHENTICATE "PLAIN" "AGEAYg=="', TLS_FIRST),
        (b'AUTHENTICATE "PLAIN" {8+}\r\nSTARTTLS', TLS_FIRST),
        (b"LISTSCRIPTS", UNKNOWN),
        (b'PUTSCRIPT "x" {10+}\r\nSTARTTLS\r\n', UNKNOWN),
        (b"", UNKNOWN),
        (b'"STARTTLS"', UNKNOWN),
        (b"\0", UNKNOWN),
        (b"GET / HTTP/1.1", UNKNOWN),
        (b"STARTTLS now", NO_ARGUMENTS),
        (b"STARTTLS\0", NO_ARGUMENTS),
        (b"CAPABILITY x", NO_ARGUMENTS),
        (b"LOGOUT x", NO_ARGUMENTS),
    ],
)
def test_everything_else_is_refused(command: bytes, answer: bytes) -> None:
    client = Client(SIEVE)
    assert client.says(command + b"\r\n") == answer
    assert client.verdict() is Verdict.GO_ON


@pytest.mark.parametrize(
    ("announcement", "answer"),
    [
        (b"{5}", b'BYE "A literal of a client has a plus: {5+}"\r\n'),
        (b"{8180+}", b'BYE "A literal is too long"\r\n'),
        (b"{99999999999999999999+}", b'BYE "A literal is too long"\r\n'),
    ],
)
def test_a_literal_that_cannot_be_read_ends_the_session(announcement: bytes, answer: bytes) -> None:
    client = Client(SIEVE)
    assert client.says(b"NOOP " + announcement + b"\r\n") == answer
    assert client.verdict() is Verdict.SPOILT


def test_a_line_over_the_limit_is_an_error_and_the_next_one_is_read() -> None:
    client = Client(SIEVE)
    assert client.says(b"x" * 100_000) == b'NO "Command too long"\r\n'
    assert client.dialogue.held <= COMMAND_CAP
    assert client.says(b"\r\nNOOP\r\n") == b'OK "NOOP completed"\r\n'


@pytest.mark.parametrize("behind", [b"b", b"NOOP\r\n", b"\x16\x03\x01", b"\n"])
def test_what_follows_starttls_in_the_same_bytes_is_an_attack(behind: bytes) -> None:
    assert refused_behind(SIEVE, b"STARTTLS\r\n", behind) == b'BYE "Nothing may follow STARTTLS before TLS"\r\n'


def test_too_many_errors_or_commands_end_the_session() -> None:
    client = Client(SIEVE)
    client.says(b"x\r\n" * (MAX_ERRORS - 1))
    assert client.says(b"x\r\n") == UNKNOWN + b'BYE "Too many errors"\r\n'
    assert client.verdict() is Verdict.SPOILT
    client = Client(SIEVE)
    assert client.says(b"NOOP\r\n" * 1000).count(b"\r\n") == MAX_COMMANDS + 1
    assert client.turn.answer.endswith(b'BYE "Too many commands"\r\n')


def test_managesieve_has_no_plain_text() -> None:
    with pytest.raises(ValueError, match="ManageSieve before TLS"):
        Client(SIEVE, require_tls=False)
    with pytest.raises(ValueError, match="only an SMTP client"):
        SIEVE.opening(Plan("me", hello=b"EHLO x\r\n"))


def test_a_probe_reads_strings_in_either_form() -> None:
    greeting = b'"implementation" {4}\r\na"\r\n\r\n{5}\r\nSIEVE {2}\r\nab\r\n"STARTTLS"\r\nOK {2}\r\nhi\r\n'
    expected = Probed(b"", (b'"implementation" {4}\r\na"\r\n', b'"SIEVE" "ab"', b'"STARTTLS"'))
    script = ((b"", greeting), (b"CAPABILITY\r\n", greeting))
    assert play(SIEVE.probe("me"), *script, ending=b"LOGOUT\r\n") == expected
    assert play(SIEVE.probe("me"), *script, ending=b"LOGOUT\r\n", pieces=single_bytes) == expected
    assert Client(SIEVE, expected).heard.startswith(b'"implementation" {4}\r\na"\r\n\r\n"SIEVE" "ab"\r\n"SASL" ""\r\n')


def test_a_server_that_takes_the_proxy_header_for_a_command_is_found_out() -> None:
    with pytest.raises(ConversationError, match='its answer to CAPABILITY is "NO "Error'):
        play(SIEVE.probe("me"), (b"", GREETING), (b"CAPABILITY\r\n", b'NO "Error in MANAGESIEVE command"\r\n'))


def test_after_the_clients_tls_the_backends_block_is_passed_on_without_starttls() -> None:
    block = GREETING.replace(b'"STARTTLS"\r\n', b"").replace(b'"XCLIENT"\r\n', b"")
    assert play(SIEVE.opening(Plan("me")), (b"", GREETING)) == Opened(block, block)
    assert play(SIEVE.opening(Plan("me")), (b"", GREETING), pieces=single_bytes) == Opened(block, block)


def test_after_tls_towards_the_backend_it_is_the_second_block_that_is_passed_on() -> None:
    block = SECURED.replace(b'"XCLIENT"\r\n', b"")
    begin = (b"STARTTLS\r\n", b'OK "Begin TLS negotiation now."\r\n')
    script = ((b"", GREETING), begin, (b"", HANDSHAKE), (b"", SECURED))
    assert play(SIEVE.opening(Plan("me", starttls=True)), *script) == Opened(block, block)
    probed = play(SIEVE.probe("me", starttls=True), *script, ending=b"LOGOUT\r\n")
    assert b'"SASL" "PLAIN LOGIN"' in probed.capabilities


def test_clients_are_not_told_of_since_they_could_say_the_same() -> None:
    with pytest.raises(ValueError, match="who the client is"):
        SIEVE.opening(Plan("me", introduction=ALICE))


@pytest.mark.parametrize(
    ("plan", "script", "words"),
    [
        (Plan("me"), [(b"", b'BYE "busy"\r\n')], 'its greeting is "BYE "busy""'),
        (Plan("me"), [(b"", b"220 mail\r\n")], 'its greeting is not ManageSieve: "220 mail"'),
        (Plan("me"), [(b"", b'"A" "b" "c"\r\n')], 'its greeting is not ManageSieve: ""A" "b" "c""'),
        (Plan("me"), [(b"", b'"A"x"b"\r\n')], 'its greeting is not ManageSieve: ""A"x"b""'),
        (Plan("me"), [(b"", GREETING + b"x")], 'it said more than its greeting: "x"'),
        (Plan("me", starttls=True), [(b"", KEPT + b"OK\r\n")], "it does not offer STARTTLS"),
        (
            Plan("me", starttls=True),
            [(b"", GREETING), (b"STARTTLS\r\n", b'NO "no"\r\n')],
            'it answered STARTTLS with "NO "no""',
        ),
        (
            Plan("me", starttls=True),
            [(b"", GREETING), (b"STARTTLS\r\n", b"OK\r\n" + SECURED)],
            'it said more than its answer to STARTTLS: "',
        ),
    ],
)
def test_a_backend_that_is_not_welcoming_is_an_error_in_words(
    plan: Plan, script: list[tuple[bytes, bytes]], words: str
) -> None:
    with pytest.raises(ConversationError) as caught:
        play(SIEVE.opening(plan), *script)
    assert str(caught.value).startswith(words)


def test_farewells_are_managesieves_own() -> None:
    for why in Farewell:
        assert SIEVE.farewell(why, NAME).startswith(b"BYE ")
