from __future__ import annotations

import pytest

from proxy import proxy_header
from proxy.client_hello import REASONS
from proxy.errors import HANDSHAKE_FAILURES, HandshakeError, Outcome, Whose, alert_record, handshake_error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unsupported protocol", "unsupported_protocol"),
        ("no shared cipher", "no_shared_cipher"),
        ("no suitable key share", "no_shared_group"),
        ("no suitable signature algorithm", "no_shared_signature"),
        ("no application protocol", "no_application_protocol"),
        ("unexpected eof while reading", "disconnected"),
        ("ssl/tls alert certificate unknown", "certificate_refused"),
        ("tlsv1 alert unknown ca", "certificate_refused"),
        ("ssl/tls alert bad certificate", "certificate_refused"),
        ("tlsv1 alert decode error", "client_alert"),
        ("tlsv1 alert user cancelled", "client_alert"),
        ("decryption failed or bad record mac", "protocol_error"),
        ("something that no version says yet", "protocol_error"),
    ],
)
def test_openssls_word_becomes_one_of_our_reasons(text: str, reason: str) -> None:
    error = handshake_error([("SSL routines", "", text)])
    assert error.reason == reason
    assert text in str(error)


def test_the_first_word_of_the_queue_that_is_known_decides() -> None:
    queue = [("SSL routines", "", "internal error"), ("SSL routines", "", "no shared cipher")]
    assert handshake_error(queue).reason == "no_shared_cipher"


def test_an_empty_queue_is_a_broken_protocol() -> None:
    assert handshake_error([]).reason == "protocol_error"


def test_every_reason_of_the_client_hello_parser_is_in_the_table() -> None:
    assert set(REASONS) <= HANDSHAKE_FAILURES.keys()


def test_every_reason_of_the_proxy_header_reader_is_in_the_table() -> None:
    assert set(proxy_header.REASONS) <= HANDSHAKE_FAILURES.keys()


def test_a_reason_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        HandshakeError("made up by a stranger")


def test_an_error_is_a_sentence_with_the_detail_behind_it() -> None:
    assert str(HandshakeError("no_shared_cipher")) == HANDSHAKE_FAILURES["no_shared_cipher"].sentence
    assert str(HandshakeError("not_tls", "0x00")).endswith(" (0x00)")


@pytest.mark.parametrize("reason", list(HANDSHAKE_FAILURES))
def test_every_reason_can_be_a_label_and_has_an_alert_that_exists(reason: str) -> None:
    kind = HANDSHAKE_FAILURES[reason]
    assert reason.replace("_", "").isalnum()
    assert reason == reason.lower()
    assert kind.alert in (None, 22, 40, 50, 70, 80, 112, 120)


def test_an_alert_is_seven_bytes_in_the_clear() -> None:
    assert alert_record(112) == bytes.fromhex("15 03 03 00 02 02 70")


def test_only_an_ordinary_end_is_nobodys_doing() -> None:
    ordinary = [outcome for outcome in Outcome if outcome.whose is None]
    assert ordinary == [Outcome.SERVED, Outcome.REDIRECTED, Outcome.BEFORE_TLS]
    assert Outcome.RESET_BY_BACKEND.whose is Whose.BACKEND
