"""How a connection can fail: whose doing it was, what the client is told, and under which word it is counted.

One table from failure to TLS alert, metric label and log word. The labels are a fixed set; nothing that a stranger
sends becomes one.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Whose(Enum):
    """Whose doing a failure is."""

    CLIENT = "client"
    BACKEND = "backend"
    OPERATOR = "operator"
    SNIGATE = "snigate"


class FailureKind(NamedTuple):
    """One row of the table. `alert` is the TLS alert sent by snigate itself (RFC 8446 section 6.2), None for none."""

    whose: Whose
    alert: int | None
    sentence: str


HANDSHAKE_FAILURES: dict[str, FailureKind] = {
    "proxy_header_missing": FailureKind(Whose.OPERATOR, None, "a peer in accept_proxy_from sent no PROXY header"),
    "proxy_header_invalid": FailureKind(Whose.OPERATOR, None, "a peer in accept_proxy_from sent a bad PROXY header"),
    "preamble_timeout": FailureKind(
        Whose.CLIENT, None, "the client did not begin TLS within preamble_timeout, by the mail protocol's STARTTLS"
    ),
    "dialogue_spoilt": FailureKind(
        Whose.CLIENT, None, "the client broke the mail protocol before TLS: errors, commands or bytes beyond measure"
    ),
    "starttls_injection": FailureKind(
        Whose.CLIENT, None, "more came behind the command that begins TLS, as from somebody who injects commands"
    ),
    "tls_at_once": FailureKind(Whose.CLIENT, None, "the client began TLS at once on a STARTTLS port"),
    "not_tls": FailureKind(Whose.CLIENT, None, "what the client sent is not TLS"),
    "plain_http": FailureKind(Whose.CLIENT, None, "the client spoke plain HTTP to a TLS port"),
    "sslv2": FailureKind(Whose.CLIENT, 70, "the client opened with SSLv2"),
    "malformed_client_hello": FailureKind(Whose.CLIENT, 50, "the ClientHello is malformed"),
    "client_hello_too_large": FailureKind(Whose.CLIENT, 22, "the ClientHello is larger than 64 KiB"),
    "bad_server_name": FailureKind(Whose.CLIENT, 112, "the server name is no host name"),
    "unrecognized_name": FailureKind(Whose.CLIENT, 112, "no certificate for this server name, and strict_sni is on"),
    "no_application_protocol": FailureKind(Whose.CLIENT, 120, "none of the client's ALPN protocols is served here"),
    "rejected": FailureKind(Whose.OPERATOR, 112, "a route rejects this server name"),
    "rejected_protocol": FailureKind(Whose.OPERATOR, 120, "a route rejects this server name with this ALPN protocol"),
    "unsupported_protocol": FailureKind(Whose.CLIENT, 70, "no TLS version in common"),
    "no_shared_cipher": FailureKind(Whose.CLIENT, 40, "no cipher in common, or none for the certificate's key"),
    "no_shared_group": FailureKind(Whose.CLIENT, 40, "no key exchange group in common"),
    "no_shared_signature": FailureKind(Whose.CLIENT, 40, "the client takes no signature of the certificate's key"),
    "client_alert": FailureKind(Whose.CLIENT, None, "the client refused the handshake"),
    "certificate_refused": FailureKind(Whose.CLIENT, None, "the client does not trust the certificate"),
    "client_certificate_missing": FailureKind(Whose.CLIENT, None, "the client showed no certificate, and has to"),
    "client_certificate_refused": FailureKind(
        Whose.CLIENT, None, "the client's certificate is not of the route's authorities, has expired or is revoked"
    ),
    "timeout": FailureKind(Whose.CLIENT, None, "the handshake was not done within handshake_timeout"),
    "crowded_out": FailureKind(
        Whose.CLIENT, None, "more handshakes, or dialogues before, were unfinished than may be; it made room"
    ),
    "disconnected": FailureKind(Whose.CLIENT, None, "the client went away before the handshake was done"),
    "protocol_error": FailureKind(Whose.CLIENT, None, "the client broke the TLS protocol"),
    "no_certificate": FailureKind(Whose.OPERATOR, 80, "there is no certificate that can be served"),
    "draining": FailureKind(Whose.SNIGATE, None, "snigate stopped before the handshake was done"),
}


class HandshakeError(Exception):
    """The handshake failed. `reason` is a key of HANDSHAKE_FAILURES; `detail` is OpenSSL's or the parser's own word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{HANDSHAKE_FAILURES[reason].sentence}{f' ({detail})' if detail else ''}")
        self.reason = reason
        self.detail = detail


class Outcome(Enum):
    """How a connection ended; the values are those of snigate_connections_total's label."""

    SERVED = "served"
    REDIRECTED = "redirected"
    REFUSED = "refused"
    HANDSHAKE_FAILED = "handshake_failed"
    BEFORE_TLS = "before_tls"
    BACKEND_UNREACHABLE = "backend_unreachable"
    REFUSED_BY_BACKEND = "refused_by_backend"
    TRUNCATED_BY_CLIENT = "truncated_by_client"
    RESET_BY_CLIENT = "reset_by_client"
    RESET_BY_BACKEND = "reset_by_backend"
    TRUNCATED_BY_BACKEND = "truncated_by_backend"
    PROTOCOL_ERROR = "protocol_error"
    BACKEND_PROTOCOL_ERROR = "backend_protocol_error"
    BAD_REQUEST = "bad_request"
    IDLE = "idle"
    DRAINED = "drained"

    @property
    def whose(self) -> Whose | None:
        """Whose doing the end was; None for an ordinary one."""
        return _WHOSE.get(self)


_WHOSE = {
    Outcome.REFUSED: Whose.CLIENT,
    Outcome.HANDSHAKE_FAILED: Whose.CLIENT,
    Outcome.BACKEND_UNREACHABLE: Whose.BACKEND,
    Outcome.REFUSED_BY_BACKEND: Whose.BACKEND,
    Outcome.TRUNCATED_BY_CLIENT: Whose.CLIENT,
    Outcome.RESET_BY_CLIENT: Whose.CLIENT,
    Outcome.RESET_BY_BACKEND: Whose.BACKEND,
    Outcome.TRUNCATED_BY_BACKEND: Whose.BACKEND,
    Outcome.PROTOCOL_ERROR: Whose.CLIENT,
    Outcome.BACKEND_PROTOCOL_ERROR: Whose.BACKEND,
    Outcome.BAD_REQUEST: Whose.CLIENT,
    Outcome.IDLE: Whose.CLIENT,
    Outcome.DRAINED: Whose.SNIGATE,
}

# OpenSSL's reasons (the text of its error queue) that are not simply a broken protocol.
_OPENSSL_REASONS = {
    "unsupported protocol": "unsupported_protocol",
    "version too low": "unsupported_protocol",
    "wrong version number": "unsupported_protocol",
    "inappropriate fallback": "unsupported_protocol",
    "no shared cipher": "no_shared_cipher",
    "no suitable groups": "no_shared_group",
    "no suitable key share": "no_shared_group",
    "no suitable signature algorithm": "no_shared_signature",
    "no shared signature algorithms": "no_shared_signature",
    "no application protocol": "no_application_protocol",
    "peer did not return a certificate": "client_certificate_missing",
    "certificate verify failed": "client_certificate_refused",
    "unexpected eof while reading": "disconnected",
}
_CERTIFICATE_ALERTS = ("certificate", "unknown ca", "access denied")


def handshake_error(queue: list[tuple[str, str, str]]) -> HandshakeError:
    """Turn OpenSSL's error queue, as pyOpenSSL's SSL.Error carries it, into a HandshakeError."""
    detail = queue[-1][2] if queue else "no reason given"
    for _, _, text in queue:
        known = _OPENSSL_REASONS.get(text)
        if known is not None:
            return HandshakeError(known, detail)
        if " alert " in text:  # "sslv3 alert certificate unknown", "tlsv1 alert unknown ca": the client sent it
            refused = any(word in text for word in _CERTIFICATE_ALERTS)
            return HandshakeError("certificate_refused" if refused else "client_alert", detail)
    return HandshakeError("protocol_error", detail)


def alert_record(description: int) -> bytes:
    """A fatal alert in the clear, the seven bytes that refuse a connection before OpenSSL knows of it."""
    return bytes((21, 3, 3, 0, 2, 2, description))
