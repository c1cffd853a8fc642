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
from proxy.starttls.opening import Opened, Opening, Plan, refuse_introduction, refuse_plain_text
from proxy.starttls.probe import Probe, Probed, keywords, probed
from proxy.starttls.protocol import MailProtocol

COMMAND_CAP: Final = 255  # bytes, RFC 2449 section 4

# What of a server's capabilities is told before TLS: nothing that means a command before the login.
_TOLD: Final = frozenset(
    {
        b"AUTH-RESP-CODE",
        b"CAPA",
        b"EXPIRE",
        b"IMPLEMENTATION",
        b"LOGIN-DELAY",
        b"PIPELINING",
        b"RESP-CODES",
        b"TOP",
        b"UIDL",
    }
)
_OWN: Final = (b"RESP-CODES", b"AUTH-RESP-CODE")
_FAREWELLS: Final = {
    Farewell.TIMEOUT: b"-ERR Timed out, closing\r\n",
    Farewell.SHUTTING_DOWN: b"-ERR [SYS/TEMP] Shutting down, try again later\r\n",
    Farewell.BACKEND_DOWN: b"-ERR [SYS/TEMP] The mail server cannot be reached, try again later\r\n",
}
_TIMESTAMP: Final = re.compile(rb" ?<[^<>@]*@[^<>]*>")  # RFC 1939 section 7, APOP
_ANGLES: Final = re.compile(rb"[<>]")  # which make one
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
        return self._refuse_login(b"-ERR [SYS/PERM] Passwords are taken under TLS only; say STLS first\r\n")

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


def _text(line: bytes) -> bytes | None:
    """The text behind +OK; None behind anything else."""
    status, _, text = line.rstrip(b"\r\n").partition(b" ")
    return text if status.upper() == b"+OK" else None


def _ok(command: bytes, verb: str) -> Generator[Ask, bytes, None]:
    """Raises ConversationError for another answer."""
    line = yield Ask(command + b"\r\n", f"its answer to {verb}")
    if _text(line) is None:
        raise ConversationError(f"it answered {verb} with {quoted(line)}")


def _greeting() -> Generator[Ask, bytes, bytes]:
    line = yield Ask(b"", "its greeting")
    if line.upper().startswith(b"-ERR"):
        raise TurnedAway(f"it greeted with {quoted(line)}", line)
    text = _text(line)
    if text is None:
        raise ConversationError(f"it greeted with {quoted(line)}, which is not POP3")
    return text


def _secure() -> Generator[Ask, bytes, None]:
    yield from _ok(b"STLS", "STLS")
    yield SECURE


_CAPA: Final = Ask(b"CAPA\r\n", "its answer to CAPA")


def _probe(*, starttls: bool) -> Script[Probed]:
    greeting = yield from _greeting()
    if starttls:
        yield from _secure()
    lines = []
    line = yield _CAPA
    if _text(line) is not None:
        while (line := (yield MORE).rstrip(b"\r\n")) != b".":
            lines.append(line.removeprefix(b"."))
    elif _text((yield _CAPA)) is not None:  # a server of before RFC 2449 has none, and would say -ERR again
        raise ConversationError(f"it answered CAPA with {quoted(line)} at first, and then with +OK")
    text = _ANGLES.sub(b"", _TIMESTAMP.sub(b"", greeting))
    return probed(_CODE.sub(b"", text), keywords(lines))


def _open(plan: Plan) -> Script[Opened]:
    greeting = yield from _greeting()
    if plan.starttls:
        yield from _secure()
    return Opened(b"+OK %b\r\n" % greeting.replace(b"[XCLIENT] ", b"", 1), b"")


class _Pop3(MailProtocol):
    name = "pop3"

    def probe(self, name: str, *, starttls: bool = False) -> Probe:
        return Conversation(_probe(starttls=starttls), LineReader(LINE_CAP), b"QUIT\r\n")

    def words(self, probed: Probed | None, name: str) -> Words:
        text, offered = probed or Probed(f"{name} ready".encode(), ())
        told = [one for one in offered if one.partition(b" ")[0].upper() in _TOLD]
        told += [one for one in _OWN if one not in {line.upper() for line in told}]
        capabilities = b"".join(b"%b\r\n" % one for one in (*told, b"STLS"))
        return Words(name.encode(), b"+OK %b\r\n" % (text or b"ready"), capabilities)

    def dialogue(self, words: Words, *, require_tls: bool = True) -> Dialogue:
        if not require_tls:
            raise ValueError("POP3 before TLS has nothing that could be left to a backend")
        return Pop3Dialogue(words)

    def opening(self, plan: Plan) -> Opening:
        refuse_plain_text(plan)
        refuse_introduction(plan)
        return Conversation(_open(plan), LineReader(LINE_CAP))

    def farewell(self, why: Farewell, name: str) -> bytes:
        return _FAREWELLS[why]


POP3 = _Pop3()
