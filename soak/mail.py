"""What mail clients and servers of the soak say, protocol by protocol."""

from __future__ import annotations

from typing import NamedTuple

from tests.support.mail_server import ANSWERS, GREETINGS

PROTOCOLS = tuple(GREETINGS)
ENDING_WORDS = (b"QUIT", b"L", b"LOGOUT")  # the first of a line after which a server hangs up


class Words(NamedTuple):
    """A client's: how a greeting ends, the command that begins TLS and the end of its answer, the last command."""

    greeting_ends: bytes
    starttls: bytes
    go_ahead_ends: bytes
    goodbye: bytes
    greets_again: bool = False  # in TLS, after STARTTLS


WORDS = {
    "smtp": Words(b"\r\n", b"STARTTLS\r\n", b"\r\n", b"QUIT\r\n"),
    "imap": Words(b"\r\n", b"b STARTTLS\r\n", b"\r\n", b"L LOGOUT\r\n"),
    "pop3": Words(b"\r\n", b"STLS\r\n", b"\r\n", b"QUIT\r\n"),
    "sieve": Words(b'ready"\r\n', b"STARTTLS\r\n", b"\r\n", b"LOGOUT\r\n", greets_again=True),
}


def answer(protocol: str, line: bytes) -> bytes:
    """A server's answer to a line."""
    return ANSWERS[protocol].get(line.partition(b" ")[0].upper(), b"heard " + line + b"\r\n")
