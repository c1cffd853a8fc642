"""What can be wrong with the bytes in which a ClientHello is expected."""

from __future__ import annotations

from typing import Literal, NoReturn, get_args

Reason = Literal[
    "not_tls", "plain_http", "sslv2", "malformed_client_hello", "client_hello_too_large", "bad_server_name"
]
REASONS: tuple[Reason, ...] = get_args(Reason)  # every value of ClientHelloError.reason

# Alert descriptions, RFC 8446 section 6.
UNEXPECTED_MESSAGE = 10
RECORD_OVERFLOW = 22
ILLEGAL_PARAMETER = 47
DECODE_ERROR = 50
PROTOCOL_VERSION = 70
UNRECOGNIZED_NAME = 112


class ClientHelloError(Exception):
    """What the client sent is no ClientHello that can be served; the text is a sentence for the log.

    `reason` is one of REASONS, fit for a metric label. `alert` is the TLS alert description to answer with (RFC 8446
    section 6), None when nothing should be sent.
    """

    def __init__(self, reason: Reason, sentence: str, alert: int | None = None) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason
        self.alert = alert


def malformed(sentence: str, alert: int = DECODE_ERROR) -> NoReturn:
    """Raise the ClientHelloError for a message that breaks the TLS syntax or its rules."""
    raise ClientHelloError("malformed_client_hello", sentence, alert)
