"""POP3 (RFC 1939, RFC 2449) before and around STLS (RFC 2595 section 4).

Before TLS nothing is answered but CAPA, STLS and QUIT. A password that is offered all the same is refused with
[SYS/PERM] (RFC 3206 section 4): no other password would help, so the client should not ask its user for one, which
[AUTH] invites it to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Final

from proxy.starttls.conversation import (
    LINE_CAP,
    MORE,
    SECURE,
    Ask,
    Conversation,
    ConversationError,
    Script,
    TurnedAway,
    quoted,
)
from proxy.starttls.dialogue import Dialogue, Farewell, Turn, Verdict, Words
from proxy.starttls.lines import LineReader
from proxy.starttls.opening import Opened, Opening, Plan, attributes, insist_on_tls
from proxy.starttls.probe import Probe, Probed, keywords, probed
from proxy.starttls.protocol import MailProtocol

COMMAND_CAP: Final = 255  # bytes, RFC 2449 section 4

# Capabilities that mean commands before the login: they are not to be had before TLS (or are a proxy's own).
_NOT_TOLD: Final = frozenset({b"SASL", b"USER", b"APOP", b"STLS", b"UTF8", b"LANG", b"XCLIENT", b"XOIP"})
_OWN: Final = (b"RESP-CODES", b"AUTH-RESP-CODE")
_FAREWELLS: Final = {
    Farewell.TIMEOUT: b"-ERR Timed out, closing\r\n",
    Farewell.SHUTTING_DOWN: b"-ERR [SYS/TEMP] Shutting down, try again later\r\n",
    Farewell.BACKEND_DOWN: b"-ERR [SYS/TEMP] The mail server cannot be reached, try again later\r\n",
}
_TIMESTAMP: Final = re.compile(rb" ?<[^<>@]*@[^<>]*>")  # RFC 1939 section 7, APOP
_CODE: Final = re.compile(rb"\A\[[^\]]*\]\s*")  # RFC 2449 section 8; Dovecot says [XCLIENT] to those it trusts


class Pop3Dialogue(Dialogue):
    """See proxy.starttls.dialogue."""

    __slots__ = ()

    def __init__(self, words: Words) -> None:
        super().__init__(words, LineReader(COMMAND_CAP))

    def _take(self, command: bytes) -> Turn:
        verb, _, argument = command.strip().partition(b" ")
        return _COMMANDS.get(verb.upper(), Pop3Dialogue._unknown)(self, argument.strip())

    def _capa(self, argument: bytes) -> Turn:
        if argument:
            return self._unknown(argument)
        return Turn(b"+OK Capabilities follow\r\n" + self._words.capabilities + b".\r\n")

    def _stls(self, argument: bytes) -> Turn:
        if argument:
            return self._unknown(argument)
        return Turn(b"+OK Begin TLS negotiation now\r\n", Verdict.TLS)

    def _quit(self, _argument: bytes) -> Turn:
        return Turn(b"+OK Bye\r\n", Verdict.GOODBYE)

    def _login(self, _argument: bytes) -> Turn:
        return self._failed(b"-ERR [SYS/PERM] Passwords are taken under TLS only; say STLS first\r\n")

    def _unknown(self, _argument: bytes) -> Turn:
        return self._failed(b"-ERR Before TLS there are CAPA, STLS and QUIT\r\n")

    def _too_long(self, _beginning: bytes) -> Turn:
        return self._failed(b"-ERR Line too long\r\n")

    def _pipelined(self, _command: bytes) -> bytes:
        return self._bye("Nothing may follow STLS before TLS")

    def _bye(self, why: str) -> bytes:
        return b"-ERR %b, closing\r\n" % why.encode()


_COMMANDS: Final[dict[bytes, Callable[[Pop3Dialogue, bytes], Turn]]] = {
    b"CAPA": Pop3Dialogue._capa,
    b"STLS": Pop3Dialogue._stls,
    b"QUIT": Pop3Dialogue._quit,
    **dict.fromkeys((b"USER", b"PASS", b"APOP", b"AUTH"), Pop3Dialogue._login),
}


def _status(ask: Ask, otherwise: str) -> Generator[Ask, bytes, bytes]:
    """The text behind +OK in the answer. Raises ConversationError, see _text."""
    return _text((yield ask), otherwise)


def _text(line: bytes, otherwise: str) -> bytes:
    """The text behind +OK. Raises ConversationError for anything else: `otherwise`, and the server's words."""
    status, _, text = line.rstrip(b"\r\n").partition(b" ")
    if status.upper() != b"+OK":
        raise ConversationError(f"{otherwise} with {quoted(line)}")
    return text


def _greeting() -> Generator[Ask, bytes, bytes]:
    line = yield Ask(b"", "its greeting")
    if line.upper().startswith(b"-ERR"):
        raise TurnedAway(f"it greeted with {quoted(line)}", line)
    return _text(line, "it greeted")


def _probe() -> Script[Probed]:
    greeting = yield from _greeting()
    lines = []
    line = yield Ask(b"CAPA\r\n", "its answer to CAPA")
    if line.upper().startswith(b"+OK"):  # a server of before RFC 2449 has none, and says -ERR
        while (line := (yield MORE).rstrip(b"\r\n")) != b".":
            lines.append(line.removeprefix(b"."))
    return probed(_CODE.sub(b"", _TIMESTAMP.sub(b"", greeting)), keywords(lines))


def _open(plan: Plan) -> Script[Opened]:
    greeting = yield from _greeting()
    if plan.starttls:
        yield from _status(Ask(b"STLS\r\n", "its answer to STLS"), "it answered STLS")
        yield SECURE
    if plan.introduction is not None:
        if b"[XCLIENT]" not in greeting:  # it would say +OK all the same
            raise ConversationError("it does not offer XCLIENT to snigate (Dovecot: login_trusted_networks)")
        said = b" ".join(
            b"%b=%b" % (name, value)
            for name, value in attributes(plan.introduction).items()
            if name in (b"ADDR", b"PORT", b"DESTADDR", b"DESTPORT")
        )
        yield from _status(Ask(b"XCLIENT %b\r\n" % said, "its answer to XCLIENT"), "it answered XCLIENT")
    return Opened(b"+OK %b\r\n" % greeting.replace(b"[XCLIENT] ", b"", 1), b"")


class _Pop3(MailProtocol):
    name = "pop3"

    def probe(self, name: str) -> Probe:
        return Conversation(_probe(), LineReader(LINE_CAP), b"QUIT\r\n")

    def words(self, probed: Probed | None, name: str) -> Words:
        text, offered = probed or Probed(f"{name} ready".encode(), ())
        told = [one for one in offered if one.partition(b" ")[0].upper() not in _NOT_TOLD]
        told += [one for one in _OWN if one not in {line.upper() for line in told}]
        capabilities = b"".join(b"%b\r\n" % one for one in (*told, b"STLS"))
        return Words(name.encode(), b"+OK %b\r\n" % (text or b"ready"), capabilities)

    def dialogue(self, words: Words, *, require_tls: bool = True) -> Dialogue:
        if not require_tls:
            raise ValueError("POP3 before TLS has nothing that could be left to a backend")
        return Pop3Dialogue(words)

    def opening(self, plan: Plan) -> Opening:
        insist_on_tls(plan)
        return Conversation(_open(plan), LineReader(LINE_CAP))

    def farewell(self, why: Farewell, name: str) -> bytes:
        return _FAREWELLS[why]


POP3 = _Pop3()
