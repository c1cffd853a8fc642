"""SMTP (RFC 5321) before and around STARTTLS (RFC 3207).

Before TLS, what does no harm is answered here. All else is refused (RFC 3207 section 4: 530 to every command but a
few), or, where a listener does not insist on TLS, is left to the backend: the client has been greeted and may have said
EHLO, so that is said again for it, and the answer swallowed. AUTH is refused either way: it was not offered.

Lines end with CR LF and with nothing else. A mail server and what stands before it must not read two different things
in the same bytes ("SMTP smuggling"), and there is nothing to gain here from reading on behind a bare LF: that ends the
session, as Postfix has it with smtpd_forbid_bare_newline = reject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator
from typing import Final, NamedTuple

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
from proxy.starttls.opening import Introduction, Opened, Opening, Plan, bare_address
from proxy.starttls.probe import Probe, Probed, keywords, printable, probed
from proxy.starttls.protocol import MailProtocol

COMMAND_CAP: Final = 512  # bytes, RFC 5321 section 4.5.3.1.4

# What of a server's extensions is told before TLS: nothing that depends on who asks (AUTH, XCLIENT).
_TOLD: Final = frozenset(
    {
        b"8BITMIME",
        b"BINARYMIME",
        b"CHUNKING",
        b"DELIVERBY",
        b"DSN",
        b"ENHANCEDSTATUSCODES",
        b"ETRN",
        b"HELP",
        b"LIMITS",
        b"MT-PRIORITY",
    }
    | {b"PIPELINING", b"SIZE", b"SMTPUTF8", b"VRFY"}
)
_OWN: Final = (b"ENHANCEDSTATUSCODES",)
_TLS_FIRST: Final = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
_FAREWELLS: Final = {
    Farewell.TIMEOUT: (b"4.4.2", b"Timed out, closing"),
    Farewell.SHUTTING_DOWN: (b"4.3.2", b"Shutting down, try again later"),
    Farewell.BACKEND_DOWN: (b"4.4.1", b"The mail server cannot be reached, try again later"),
}
_COMMAND: Final = re.compile(rb"([A-Za-z]+)(?: +([^ ].*?)?)? *\r\n", re.DOTALL)
_HOST: Final = re.compile(rb"[!-~]+(?: [ -~]*)?")
_REPLY: Final = re.compile(rb"([2-5]\d\d)(?:([ -])(.*?))?\r?\n", re.DOTALL)
# Answers to XCLIENT of a server that does not take it, whoever the client is: syntax, order, authorization.
_OUR_FAULT: Final = frozenset({500, 501, 502, 503, 504, 550})
_XTEXT_UNSAFE: Final = re.compile(rb"[^!-*,-<>-~]")  # RFC 3461 section 4


class SmtpDialogue(Dialogue):
    """See proxy.starttls.dialogue."""

    __slots__ = ("_hello", "_require_tls")

    def __init__(self, words: Words, require_tls: bool) -> None:
        super().__init__(words, LineReader(COMMAND_CAP))
        self._require_tls = require_tls
        self._hello = b""  # as the client said it last

    def _take(self, command: bytes) -> Turn:
        if not command.endswith(b"\r\n"):
            return Turn(b"521 5.5.2 Lines end with CR LF\r\n", Verdict.SPOILT)
        if printable(command) != command[:-2] and not self._is_utf8(command):
            return self._failed(b"500 5.5.2 Syntax error: control or invalid characters\r\n")
        match = _COMMAND.fullmatch(command)
        if match is None:
            return self._failed(b"500 5.5.2 Syntax error: no command\r\n")
        verb, argument = match[1].upper(), match[2] or b""
        answer = _COMMANDS.get(verb)
        if answer is not None:
            return answer(self, argument)
        if not self._require_tls:
            return self._leave(command)
        if verb == b"BDAT":  # what follows it is a mail's, and must not be taken for commands
            return self._close("No mail before TLS", _TLS_FIRST)
        return self._failed(_TLS_FIRST)

    @staticmethod
    def _is_utf8(command: bytes) -> bool:
        """Whether the command is text, beyond ASCII (RFC 6531)."""
        try:
            return command[:-2].decode().isprintable()
        except UnicodeDecodeError:
            return False

    def _leave(self, command: bytes) -> Turn:
        return Turn(b"", Verdict.PLAIN, self._hello, command + self._reader.pending)

    def _ehlo(self, argument: bytes) -> Turn:
        return self._greeted(b"EHLO", argument, self._words.capabilities)

    def _helo(self, argument: bytes) -> Turn:
        return self._greeted(b"HELO", argument, b"250 %b\r\n" % self._words.name)

    def _greeted(self, verb: bytes, argument: bytes, answer: bytes) -> Turn:
        if not _HOST.fullmatch(argument):
            return self._failed(b"501 5.5.4 Syntax: %b hostname\r\n" % verb)
        self._hello = b"%b %b\r\n" % (verb, argument)
        return Turn(answer)

    def _noop(self, _argument: bytes) -> Turn:
        return Turn(b"250 2.0.0 OK\r\n")

    def _help(self, _argument: bytes) -> Turn:
        return Turn(b"214 2.0.0 Say EHLO, then STARTTLS\r\n")

    def _quit(self, _argument: bytes) -> Turn:
        return Turn(b"221 2.0.0 Bye\r\n", Verdict.GOODBYE)

    def _auth(self, _argument: bytes) -> Turn:
        return self._refuse_login(_TLS_FIRST)

    def _starttls(self, argument: bytes) -> Turn:
        if argument:
            return self._failed(b"501 5.5.4 Syntax: STARTTLS without parameters\r\n")
        return Turn(b"220 2.0.0 Ready to start TLS\r\n", Verdict.TLS)

    def _too_long(self, beginning: bytes) -> Turn:
        if not self._require_tls and beginning[:5].upper() == b"MAIL ":  # which extensions make longer
            return self._leave(beginning)
        return self._failed(b"500 5.5.2 Line too long\r\n")

    def _pipelined(self, _command: bytes) -> bytes:
        return b"503 5.5.1 Nothing may follow STARTTLS before TLS\r\n" + self._bye("Commands behind STARTTLS")

    def _bye(self, why: str) -> bytes:
        return b"421 4.7.0 %b %b, closing\r\n" % (self._words.name, why.encode())


_COMMANDS: Final[dict[bytes, Callable[[SmtpDialogue, bytes], Turn]]] = {
    b"EHLO": SmtpDialogue._ehlo,
    b"HELO": SmtpDialogue._helo,
    b"NOOP": SmtpDialogue._noop,
    b"RSET": SmtpDialogue._noop,
    b"HELP": SmtpDialogue._help,
    b"QUIT": SmtpDialogue._quit,
    b"AUTH": SmtpDialogue._auth,
    b"STARTTLS": SmtpDialogue._starttls,
}


class _Reply(NamedTuple):
    code: int
    lines: list[bytes]  # texts
    raw: bytes

    def insist(self, code: int, otherwise: str) -> _Reply:
        """Raises ConversationError where the code is another: `otherwise`, and the server's words."""
        if self.code != code:
            raise ConversationError(f"{otherwise} with {quoted(self.raw)}")
        return self

    def insist_for_client(self, code: int, otherwise: str, ours: Collection[int] = ()) -> _Reply:
        """The same for an answer that is about the client: its refusal raises TurnedAway, but for codes in `ours`."""
        if self.code >= 400 and self.code not in ours:
            raise TurnedAway(f"{otherwise} with {quoted(self.raw)}", self.raw)
        return self.insist(code, otherwise)


def _reply(ask: Ask) -> Generator[Ask, bytes, _Reply]:
    lines: list[bytes] = []
    raw = b""
    while True:
        line = yield MORE if raw else ask
        match = _REPLY.fullmatch(line)
        if match is None:
            raise ConversationError(f"{ask.awaited} is not SMTP: {quoted(line)}")
        lines.append(match[3] or b"")
        raw += line.rstrip(b"\r\n") + b"\r\n"
        if match[2] != b"-":
            return _Reply(int(match[1]), lines, raw)


def _greeting() -> Generator[Ask, bytes, _Reply]:
    return (yield from _reply(Ask(b"", "its greeting"))).insist_for_client(220, "it greeted")


def _extensions(name: str) -> Generator[Ask, bytes, list[bytes]]:
    reply = yield from _reply(Ask(f"EHLO {name}\r\n".encode(), "its answer to EHLO"))
    return keywords(reply.insist(250, "it answered EHLO").lines[1:])


def _secure(name: str) -> Generator[Ask, bytes, None]:
    offered = {_keyword(extension) for extension in (yield from _extensions(name))}
    if b"STARTTLS" not in offered:
        raise ConversationError("it does not offer STARTTLS")
    reply = yield from _reply(Ask(b"STARTTLS\r\n", "its answer to STARTTLS"))
    reply.insist(220, "it answered STARTTLS")
    yield SECURE


def _probe(name: str, *, starttls: bool) -> Script[Probed]:
    greeting = yield from _greeting()
    if starttls:
        yield from _secure(name)
    extensions = yield from _extensions(name)
    _, _, text = greeting.lines[-1].partition(b" ")  # the first word is its host's name
    return probed(text, extensions)


def _open(plan: Plan) -> Script[Opened]:
    greeting = yield from _greeting()
    if plan.starttls:
        yield from _secure(plan.name)
    if plan.introduction is not None:
        command = _xclient(plan.introduction, (yield from _extensions(plan.name)))
        reply = yield from _reply(Ask(command, "its answer to XCLIENT"))
        greeting = reply.insist_for_client(220, "it answered XCLIENT", _OUR_FAULT)
    if plan.hello:
        reply = yield from _reply(Ask(plan.hello, "its answer to the client's EHLO"))
        reply.insist_for_client(250, "it answered the client's EHLO")
    return Opened(greeting.raw, b"")


def _attributes(introduction: Introduction) -> dict[bytes, bytes]:
    """What XCLIENT can say of a client, by its attributes' names (Postfix's XCLIENT_README; all values are xtext)."""
    return {
        # Nobody asked for its name. Without these two Postfix would go on to take it for the proxy's.
        b"NAME": b"[TEMPUNAVAIL]",
        b"REVERSE_NAME": b"[TEMPUNAVAIL]",
        b"ADDR": bare_address(introduction.client[0]),
        b"PORT": b"%d" % introduction.client[1],
        b"DESTADDR": bare_address(introduction.local[0]),
        b"DESTPORT": b"%d" % introduction.local[1],
    }


def _xclient(introduction: Introduction, extensions: list[bytes]) -> bytes:
    """The command, with all the attributes that the server takes and there is something to say of."""
    offered = next((line.upper().split()[1:] for line in extensions if _keyword(line) == b"XCLIENT"), None)
    if offered is None:
        raise ConversationError("it does not offer XCLIENT to snigate (Postfix: smtpd_authorized_xclient_hosts)")
    if b"ADDR" not in offered:
        raise ConversationError("it offers XCLIENT, but not its attribute ADDR")
    known = _attributes(introduction)
    for name in (b"ADDR", b"DESTADDR"):
        if b":" in known[name]:
            known[name] = b"IPV6:" + known[name]
    said = (name + b"=" + _xtext(value) for name, value in known.items() if name in offered)
    return b"XCLIENT " + b" ".join(said) + b"\r\n"


def _xtext(value: bytes) -> bytes:
    return _XTEXT_UNSAFE.sub(lambda found: b"+%02X" % found[0][0], value)


def _keyword(extension: bytes) -> bytes:
    return extension.partition(b" ")[0].upper()


class _Smtp(MailProtocol):
    name = "smtp"

    def probe(self, name: str, *, starttls: bool = False) -> Probe:
        return Conversation(_probe(name, starttls=starttls), LineReader(LINE_CAP), b"QUIT\r\n")

    def words(self, probed: Probed | None, name: str) -> Words:
        text, offered = probed or Probed(b"", ())
        told = [name.encode(), *(one for one in offered or _OWN if _keyword(one) in _TOLD)]
        capabilities = b"".join(b"250-%b\r\n" % one for one in told) + b"250 STARTTLS\r\n"
        return Words(name.encode(), b"220 %b %b\r\n" % (name.encode(), text or b"ESMTP"), capabilities)

    def dialogue(self, words: Words, *, require_tls: bool = True) -> Dialogue:
        return SmtpDialogue(words, require_tls)

    def opening(self, plan: Plan) -> Opening:
        return Conversation(_open(plan), LineReader(LINE_CAP))

    def farewell(self, why: Farewell, name: str) -> bytes:
        code, text = _FAREWELLS[why]
        return b"421 %b %b %b\r\n" % (code, name.encode(), text)


SMTP = _Smtp()
