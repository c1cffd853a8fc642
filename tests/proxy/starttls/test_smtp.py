from __future__ import annotations

import pytest

from proxy.starttls.conversation import ConversationError, TurnedAway
from proxy.starttls.dialogue import MAX_COMMANDS, MAX_ERRORS, Farewell, Turn, Verdict
from proxy.starttls.opening import Introduction, Opened, Plan
from proxy.starttls.probe import Probed
from proxy.starttls.smtp import COMMAND_CAP, SMTP
from tests.support.mail import HANDSHAKE, NAME, Client, play, refused_behind, single_bytes

POSTFIX = (
    b"250-mail.internal\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n250-STARTTLS\r\n"
    b"250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN LOGIN\r\n250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n"
    b"250-XFORWARD NAME ADDR\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
)
GREETING = b"220 mail.internal ESMTP Postfix (Debian)\r\n"
PROBED = play(
    SMTP.probe("proxy.example.com"), (b"", GREETING), (b"EHLO proxy.example.com\r\n", POSTFIX), ending=b"QUIT\r\n"
)
TLS_FIRST = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
ALICE = Introduction(("192.0.2.7", 4711), ("198.51.100.1", 25), "id", "mx.example.com", True)


def test_a_client_is_greeted_with_the_listeners_name_and_led_to_tls() -> None:
    client = Client(SMTP, PROBED)
    assert client.heard == b"220 mx.example.com ESMTP Postfix (Debian)\r\n"
    assert client.says(b"EHLO client.example\r\n") == (
        b"250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 STARTTLS\r\n"
    )
    assert client.verdict() is Verdict.GO_ON
    assert client.says(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    assert client.verdict() is Verdict.TLS


@pytest.mark.parametrize("probed", [None, Probed(b"", ())])
def test_without_a_probe_snigate_has_words_of_its_own(probed: Probed | None) -> None:
    client = Client(SMTP, probed)
    assert client.heard == b"220 mx.example.com ESMTP\r\n"
    assert client.says(b"ehlo me\r\n") == b"250-mx.example.com\r\n250-ENHANCEDSTATUSCODES\r\n250 STARTTLS\r\n"


def test_what_does_no_harm_is_answered() -> None:
    client = Client(SMTP)
    assert client.says(b"HELO client.example\r\n") == b"250 mx.example.com\r\n"
    assert client.says(b"NOOP\r\n") == b"250 2.0.0 OK\r\n"
    assert client.says(b"noop whatever\r\n") == b"250 2.0.0 OK\r\n"
    assert client.says(b"RSET\r\n") == b"250 2.0.0 OK\r\n"
    assert client.says(b"HELP\r\n") == b"214 2.0.0 Say EHLO, then STARTTLS\r\n"
    assert client.says(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert client.verdict() is Verdict.GOODBYE


@pytest.mark.parametrize(
    "command",
    [b"MAIL FROM:<a@b>", b"RCPT TO:<a@b>", b"DATA", b"AUTH PLAIN AGEAYg==", b"VRFY root", b"GET / X"],
)
def test_everything_else_has_to_wait_for_tls(command: bytes) -> None:
    client = Client(SMTP)
    assert client.says(command + b"\r\n") == TLS_FIRST
    assert client.verdict() is Verdict.GO_ON


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"EHLO", b"501 5.5.4 Syntax: EHLO hostname\r\n"),
        (b"HELO ", b"501 5.5.4 Syntax: HELO hostname\r\n"),
        ("EHLO b\u00fccher.example".encode(), b"501 5.5.4 Syntax: EHLO hostname\r\n"),
        (b"STARTTLS now", b"501 5.5.4 Syntax: STARTTLS without parameters\r\n"),
        (b"", b"500 5.5.2 Syntax error: no command\r\n"),
        (b" NOOP", b"500 5.5.2 Syntax error: no command\r\n"),
        (b"STARTTLS\0", b"500 5.5.2 Syntax error: control or invalid characters\r\n"),
        (b"NOOP\rSTARTTLS", b"500 5.5.2 Syntax error: control or invalid characters\r\n"),
        (b"STARTTLS\r", b"500 5.5.2 Syntax error: control or invalid characters\r\n"),
        (b"NOOP \xff", b"500 5.5.2 Syntax error: control or invalid characters\r\n"),
    ],
)
def test_a_malformed_command_is_an_error_and_nothing_more(command: bytes, answer: bytes) -> None:
    client = Client(SMTP)
    assert client.says(command + b"\r\n") == answer
    assert client.verdict() is Verdict.GO_ON


@pytest.mark.parametrize("line", [b"NOOP\n", b"STARTTLS\n", b"NOOP\nSTARTTLS\r\n", b"\n", b"MAIL FROM:<a@b>\n"])
@pytest.mark.parametrize("require_tls", [True, False])
def test_a_bare_line_feed_ends_the_session_and_nothing_behind_it_is_read(line: bytes, require_tls: bool) -> None:
    client = Client(SMTP, require_tls=require_tls)
    assert client.says(line) == b"521 5.5.2 Lines end with CR LF\r\n"
    assert client.verdict() is Verdict.SPOILT


def test_commands_may_come_together_and_in_pieces() -> None:
    client = Client(SMTP)
    assert client.says(b"NOOP\r\nHEL") == b"250 2.0.0 OK\r\n"
    assert client.says(b"O me\r") == b""
    assert client.says(b"\nSTARTTLS\r\n") == b"250 mx.example.com\r\n220 2.0.0 Ready to start TLS\r\n"
    assert client.verdict() is Verdict.TLS


@pytest.mark.parametrize("behind", [b"X", b"EHLO evil\r\n", b"\x16\x03\x01", b"\r\n"])
def test_what_follows_starttls_in_the_same_bytes_is_an_attack(behind: bytes) -> None:
    assert refused_behind(SMTP, b"STARTTLS\r\n", behind) == (
        b"503 5.5.1 Nothing may follow STARTTLS before TLS\r\n"
        b"421 4.7.0 mx.example.com Commands behind STARTTLS, closing\r\n"
    )


def test_a_line_over_the_limit_is_an_error_and_the_next_one_is_read() -> None:
    client = Client(SMTP)
    longest = b"NOOP " + b"x" * (COMMAND_CAP - 7) + b"\r\n"
    assert client.says(longest) == b"250 2.0.0 OK\r\n"
    assert client.says(b"x" * 100_000) == b"500 5.5.2 Line too long\r\n"
    assert client.dialogue.held <= COMMAND_CAP
    assert client.says(b"x\r\nNOOP\r\n") == b"250 2.0.0 OK\r\n"


def test_too_many_errors_end_the_session() -> None:
    client = Client(SMTP)
    for _ in range(MAX_ERRORS - 1):
        assert client.says(b"DATA\r\n") == TLS_FIRST
    assert client.says(b"DATA\r\n") == TLS_FIRST + b"421 4.7.0 mx.example.com Too many errors, closing\r\n"
    assert client.verdict() is Verdict.SPOILT


def test_too_many_commands_end_the_session() -> None:
    client = Client(SMTP)
    client.says(b"NOOP\r\n" * MAX_COMMANDS)
    assert client.verdict() is Verdict.GO_ON
    assert client.says(b"NOOP\r\n" * 1000) == b"421 4.7.0 mx.example.com Too many commands, closing\r\n"
    assert client.verdict() is Verdict.SPOILT


def test_nothing_is_taken_after_the_end() -> None:
    client = Client(SMTP)
    client.says(b"QUIT\r\nNOOP\r\n")
    with pytest.raises(RuntimeError, match="'goodbye'"):
        client.says(b"NOOP\r\n")


def test_where_plain_text_is_allowed_the_backend_gets_what_the_client_said_and_its_ehlo_again() -> None:
    client = Client(SMTP, PROBED, require_tls=False)
    assert client.says(b"EHLO client.example \r\n").endswith(b"250 STARTTLS\r\n")
    assert client.says(b"NOOP\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDA") == b"250 2.0.0 OK\r\n"
    assert client.turn == Turn(
        b"250 2.0.0 OK\r\n", Verdict.PLAIN, b"EHLO client.example\r\n", b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDA"
    )


@pytest.mark.parametrize(
    "said", ["MAIL FROM:<b\u00fccher@example.com> SMTPUTF8\r\n".encode(), b"VRFY root\r\n", b"mail from:" + b"x" * 600]
)
def test_plain_text_may_begin_without_ehlo_and_with_what_only_the_backend_can_judge(said: bytes) -> None:
    client = Client(SMTP, require_tls=False)
    assert client.says(said) == b""
    assert client.turn == Turn(b"", Verdict.PLAIN, b"", said)


def test_where_plain_text_is_allowed_tls_still_works_and_passwords_still_wait_for_it() -> None:
    client = Client(SMTP, require_tls=False)
    assert client.says(b"AUTH PLAIN AGEAYg==\r\n") == TLS_FIRST
    assert client.says(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    assert client.verdict() is Verdict.TLS


@pytest.mark.parametrize("verb", [b"AUTH XOAUTH2 ", b"STARTTLS", b"EHLO ", b"mail\t", b""])
def test_a_command_over_the_limit_is_no_way_to_the_backend_unless_it_begins_a_mail(verb: bytes) -> None:
    client = Client(SMTP, require_tls=False)
    assert client.says(verb + b" " * 600) == b"500 5.5.2 Line too long\r\n"
    assert client.verdict() is Verdict.GO_ON


def test_a_probe_finds_greeting_and_extensions() -> None:
    assert PROBED.greeting == b"ESMTP Postfix (Debian)"
    assert PROBED.capabilities[:3] == (b"PIPELINING", b"SIZE 10240000", b"VRFY")
    assert len(PROBED.capabilities) == 14


def test_a_probe_takes_the_last_line_of_a_greeting() -> None:
    greeting = b"220-mail.internal wait\r\n220 mail.internal ESMTP\r\n"
    script = ((b"", greeting), (b"EHLO me\r\n", b"250 mail.internal\r\n"))
    assert play(SMTP.probe("me"), *script, ending=b"QUIT\r\n") == Probed(b"ESMTP", ())
    assert play(SMTP.probe("me"), *script, ending=b"QUIT\r\n", pieces=single_bytes) == Probed(b"ESMTP", ())


def test_a_probed_server_cannot_put_words_of_another_kind_into_snigates_mouth() -> None:
    answer = b"250-x\r\n250-SIZE 1\r2\r\n250-DSN\0\r\n250-8BITMIME\xff\r\n250 PIPELINING\r\n"
    probed = play(SMTP.probe("me"), (b"", b"220 x a\rb\xffc\r\n"), (b"EHLO me\r\n", answer), ending=b"QUIT\r\n")
    assert probed == Probed(b"a?b?c", (b"PIPELINING",))


def test_after_the_clients_tls_the_greeting_is_swallowed() -> None:
    assert play(SMTP.opening(Plan("me")), (b"", GREETING)) == Opened(GREETING, b"")
    assert play(SMTP.opening(Plan("me")), (b"", b"220-wait\r\n" + GREETING)) == Opened(b"220-wait\r\n" + GREETING, b"")


def test_tls_begins_towards_the_backend() -> None:
    opened = play(
        SMTP.opening(Plan("me", starttls=True)),
        (b"", GREETING),
        (b"EHLO me\r\n", POSTFIX),
        (b"STARTTLS\r\n", b"220 2.0.0 Ready\r\n"),
        (b"", HANDSHAKE),
        pieces=single_bytes,
    )
    assert opened == Opened(GREETING, b"")


def test_the_backend_is_told_the_clients_address_inside_tls() -> None:
    again = b"220 mail.internal ESMTP again\r\n"
    xclient = b"XCLIENT NAME=[TEMPUNAVAIL] ADDR=192.0.2.7 PORT=4711 DESTADDR=198.51.100.1 DESTPORT=25\r\n"
    opened = play(
        SMTP.opening(Plan("me", starttls=True, introduction=ALICE)),
        (b"", GREETING),
        (b"EHLO me\r\n", POSTFIX),
        (b"STARTTLS\r\n", b"220 2.0.0 Ready\r\n"),
        (b"", HANDSHAKE),
        (b"EHLO me\r\n", POSTFIX),
        (xclient, again),
    )
    assert opened == Opened(again, b"")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("2001:DB8::0:1", b"IPV6:2001:db8::1"),
        ("fe80::1%eth0", b"IPV6:fe80::1"),
        ("::ffff:192.0.2.1", b"192.0.2.1"),
        ("192.0.2.1", b"192.0.2.1"),
    ],
)
def test_addresses_are_written_as_xclient_has_them(address: str, said: bytes) -> None:
    plan = Plan("me", introduction=ALICE._replace(client=(address, 1)))
    script = ((b"", GREETING), (b"EHLO me\r\n", b"250-x\r\n250 xclient addr port\r\n"))
    play(SMTP.opening(plan), *script, (b"XCLIENT ADDR=%b PORT=1\r\n" % said, GREETING))


def test_a_client_in_plain_text_has_its_ehlo_said_again_and_the_answer_is_swallowed() -> None:
    hello = b"EHLO client.example\r\n"
    script = ((b"", GREETING), (hello, POSTFIX))
    assert play(SMTP.opening(Plan("me", hello=hello)), *script) == Opened(GREETING, b"")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([(b"", b"421 4.3.2 busy\r\n")], 'it greeted with "421 4.3.2 busy"'),
        ([(b"", b"554-no\r\n554 service\r\n")], 'it greeted with "554-no\\r\\n554 service"'),
        ([(b"", b"* OK IMAP here\r\n")], 'its greeting is not SMTP: "* OK IMAP here"'),
        ([(b"", b"\x16\x03\x01\n")], 'its greeting is not SMTP: "\\x16\\x03\\x01"'),
        ([(b"", GREETING + b"220 again\r\n")], 'it said more than its greeting: "220 again"'),
        ([(b"", GREETING), (b"EHLO me\r\n", b"502 what\r\n")], 'it answered EHLO with "502 what"'),
        ([(b"", GREETING), (b"EHLO me\r\n", b"250 x\r\n")], "it does not offer STARTTLS"),
        (
            [(b"", GREETING), (b"EHLO me\r\n", POSTFIX), (b"STARTTLS\r\n", b"454 later\r\n")],
            'it answered STARTTLS with "454 later"',
        ),
        (
            [(b"", GREETING), (b"EHLO me\r\n", POSTFIX), (b"STARTTLS\r\n", b"220 go\r\n250 injected\r\n")],
            'it said more than its answer to STARTTLS: "250 injected"',
        ),
        ([(b"", b"220 " + b"x" * 9000)], "a line of its greeting is longer than 8192 bytes"),
        ([(b"", b"220-x\r\n" * 10_000)], "it said more than 65536 bytes before its greeting was complete"),
    ],
)
def test_a_backend_that_is_not_welcoming_is_an_error_in_words(script: list[tuple[bytes, bytes]], words: str) -> None:
    with pytest.raises(ConversationError) as caught:
        play(SMTP.opening(Plan("me", starttls=True)), *script)
    assert str(caught.value) == words


def test_a_backend_that_turns_the_client_away_has_words_for_it() -> None:
    hello = b"EHLO client.example\r\n"
    with pytest.raises(TurnedAway, match='it answered the client\'s EHLO with "550 not you"') as caught:
        play(SMTP.opening(Plan("me", hello=hello)), (b"", GREETING), (hello, b"550 not you\r\n"))
    assert caught.value.words == b"550 not you\r\n"
    with pytest.raises(TurnedAway) as caught:
        play(SMTP.opening(Plan("me")), (b"", b"554-no\n554 service\r\n"))
    assert caught.value.words == b"554-no\r\n554 service\r\n"
    answers = (b"", GREETING), (b"EHLO me\r\n", POSTFIX)
    said = b"XCLIENT NAME=[TEMPUNAVAIL] ADDR=192.0.2.7 PORT=4711 DESTADDR=198.51.100.1 DESTPORT=25\r\n"
    with pytest.raises(TurnedAway) as caught:
        play(SMTP.opening(Plan("me", introduction=ALICE)), *answers, (said, b"421 4.7.0 too many of yours\r\n"))
    assert caught.value.words == b"421 4.7.0 too many of yours\r\n"


def test_a_backend_that_does_not_let_snigate_introduce_clients_turns_none_of_them_away() -> None:
    answers = (b"", GREETING), (b"EHLO me\r\n", b"250-x\r\n250 XCLIENT ADDR\r\n")
    with pytest.raises(ConversationError) as caught:
        play(SMTP.opening(Plan("me", introduction=ALICE)), *answers, (b"XCLIENT ADDR=192.0.2.7\r\n", b"550 no\r\n"))
    assert not isinstance(caught.value, TurnedAway)


def test_what_is_awaited_is_said_for_messages_about_time() -> None:
    opening = SMTP.opening(Plan("me", starttls=True))
    assert opening.awaited == "its greeting"
    opening.receive(GREETING)
    assert opening.awaited == "its answer to EHLO"
    opening.receive(POSTFIX)
    opening.receive(b"220 go\r\n")
    assert opening.awaited == "the TLS handshake"
    with pytest.raises(RuntimeError, match="no turn"):
        opening.receive(b"220 injected\r\n")


def test_more_capabilities_than_can_be_said_again_and_again_are_an_error() -> None:
    answer = b"".join(b"250-SIZE %d\r\n" % number for number in range(1000)) + b"250 x\r\n"
    with pytest.raises(ConversationError, match="its capabilities are 7885 bytes long, and 4096 are the most"):
        play(SMTP.probe("me"), (b"", GREETING), (b"EHLO me\r\n", answer))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([b"250 x\r\n"], "it does not offer XCLIENT to snigate (Postfix: smtpd_authorized_xclient_hosts)"),
        ([b"250-x\r\n250 XCLIENT NAME\r\n"], "it offers XCLIENT, but not its attribute ADDR"),
        ([b"250-x\r\n250 XCLIENT ADDR\r\n", b"550 5.7.0 no\r\n"], 'it answered XCLIENT with "550 5.7.0 no"'),
    ],
)
def test_a_backend_that_would_not_know_the_client_is_not_used(answers: list[bytes], words: str) -> None:
    said = [b"EHLO me\r\n", b"XCLIENT ADDR=192.0.2.7\r\n"]
    with pytest.raises(ConversationError) as caught:
        play(SMTP.opening(Plan("me", introduction=ALICE)), (b"", GREETING), *zip(said, answers, strict=False))
    assert str(caught.value) == words


def test_farewells_are_smtps_own() -> None:
    assert SMTP.farewell(Farewell.TIMEOUT, NAME) == b"421 4.4.2 mx.example.com Timed out, closing\r\n"
    assert SMTP.farewell(Farewell.SHUTTING_DOWN, NAME).startswith(b"421 4.3.2 mx.example.com ")
    assert SMTP.farewell(Farewell.BACKEND_DOWN, NAME).startswith(b"421 4.4.1 mx.example.com ")


def test_a_probe_by_starttls_asks_inside_tls() -> None:
    before, inside = b"250-x\r\n250 STARTTLS\r\n", b"250-x\r\n250 SIZE 7\r\n"
    script = ((b"", GREETING), (b"EHLO me\r\n", before), (b"STARTTLS\r\n", b"220 go\r\n"), (b"", HANDSHAKE))
    probed = play(SMTP.probe("me", starttls=True), *script, (b"EHLO me\r\n", inside), ending=b"QUIT\r\n")
    assert probed.capabilities == (b"SIZE 7",)
    assert Client(SMTP, probed).dialogue.login_refused is False


def test_a_refused_login_is_remembered() -> None:
    client = Client(SMTP)
    client.says(b"AUTH PLAIN AGEAYg==\r\nQUIT\r\n")
    assert client.dialogue.login_refused


def test_a_chunk_before_tls_is_not_taken_for_commands() -> None:
    client = Client(SMTP, Probed(b"", (b"CHUNKING", b"BINARYMIME")))
    assert b"250-CHUNKING\r\n250-BINARYMIME\r\n" in client.says(b"EHLO me\r\n")
    said = b"MAIL FROM:<a@b.example>\r\nBDAT 10 LAST\r\nSTARTTLS\r\n"
    assert client.says(said) == TLS_FIRST * 2 + b"421 4.7.0 mx.example.com No mail before TLS, closing\r\n"
    assert client.verdict() is Verdict.SPOILT
    with_plain_text = Client(SMTP, require_tls=False)
    with_plain_text.says(b"BDAT 10 LAST\r\nSTARTTLS\r\n")
    assert with_plain_text.turn.rest == b"BDAT 10 LAST\r\nSTARTTLS\r\n"
