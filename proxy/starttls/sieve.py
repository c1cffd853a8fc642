"""ManageSieve (RFC 5804) before and around STARTTLS (section 2.2).

The server greets with its capabilities, and says them again unasked when TLS has begun. So the block that a backend
greets with is what a client of STARTTLS then waits for, and is passed on, without what is the proxy's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
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
from proxy.starttls.lines import Announced, LiteralReader, ResponseReader, without_ending
from proxy.starttls.opening import Opened, Opening, Plan, refuse_introduction, refuse_plain_text
from proxy.starttls.probe import Probe, Probed, probed
from proxy.starttls.protocol import MailProtocol

COMMAND_CAP: Final = 8192  # bytes with literals; the RFC has no limit
ECHO_CAP: Final = 256  # bytes of NOOP's string
QUOTED_CAP: Final = 1024  # bytes between quotes, section 4; longer strings are literals

# What of a server's capabilities is told before TLS (section 1.7). SASL is, but without mechanisms.
_TOLD: Final = frozenset({b"IMPLEMENTATION", b"LANGUAGE", b"MAXREDIRECTS", b"NOTIFY", b"SIEVE", b"VERSION"})
_OWN: Final = (b'"IMPLEMENTATION" "snigate"', b'"SIEVE" ""', b'"VERSION" "1.0"')
_BEFORE_TLS: Final = (b'"SASL" ""', b'"STARTTLS"')
_FAREWELLS: Final = {
    Farewell.TIMEOUT: b'BYE "Timed out"\r\n',
    Farewell.SHUTTING_DOWN: b'BYE (TRYLATER) "Shutting down, try again later"\r\n',
    Farewell.BACKEND_DOWN: b'BYE (TRYLATER) "The mail server cannot be reached, try again later"\r\n',
}
_VERB: Final = re.compile(rb"[A-Za-z]+")
_STATUS: Final = re.compile(rb"(?i)(OK|NO|BYE)(?=[ \r\n])")
_STRING: Final = re.compile(rb'"((?:[^"\\\r\n\0]|\\[^\r\n\0])*)"|\{(\d{1,20})\+?\}\r?\n')
_ESCAPED: Final = re.compile(rb"\\(.)")
_SPECIALS: Final = re.compile(rb'(["\\])')


class SieveDialogue(Dialogue):
    """See proxy.starttls.dialogue."""

    __slots__ = ()
    _reader: LiteralReader

    def __init__(self, words: Words) -> None:
        super().__init__(words, LiteralReader(COMMAND_CAP))

    def _take(self, command: bytes) -> Turn:
        match = _VERB.match(command)
        verb, argument = (match[0].upper(), command[match.end() :]) if match else (b"", b"")
        return _COMMANDS.get(verb, SieveDialogue._unknown)(self, without_ending(argument).lstrip(b" "))

    def _capability(self, argument: bytes) -> Turn:
        return self._superfluous() if argument else Turn(self._words.capabilities + b'OK "Capability completed"\r\n')

    def _noop(self, argument: bytes) -> Turn:
        """Section 2.13: its string comes back."""
        if not argument:
            return Turn(b'OK "NOOP completed"\r\n')
        string = _read_string(argument, 0)
        if string is None or string.end != len(argument) or len(string.value) > ECHO_CAP or not _shown(string.value):
            return self._failed(b'NO "NOOP takes one short string"\r\n')
        return Turn(b'OK (TAG %b) "NOOP completed"\r\n' % _string(string.value))

    def _logout(self, argument: bytes) -> Turn:
        return self._superfluous() if argument else Turn(b'OK "Logout completed"\r\n', Verdict.GOODBYE)

    def _starttls(self, argument: bytes) -> Turn:
        return self._superfluous() if argument else Turn(b'OK "Begin TLS negotiation now"\r\n', Verdict.TLS)

    def _authenticate(self, _argument: bytes) -> Turn:
        return self._refuse_login(b'NO (ENCRYPT-NEEDED) "Passwords are taken under TLS only; say STARTTLS first"\r\n')

    def _unknown(self, _argument: bytes) -> Turn:
        return self._failed(b'NO "Before TLS there are CAPABILITY, NOOP, STARTTLS and LOGOUT"\r\n')

    def _superfluous(self) -> Turn:
        return self._failed(b'NO "This command takes no arguments"\r\n')

    def _announced(self, announced: Announced) -> Turn:
        """A literal that does not fit cannot be skipped over, and one that waits for an invitation is none here."""
        if not announced.unasked:
            return self._close("A literal of a client has a plus: {5+}")
        if not announced.fits:
            return self._close("A literal is too long")
        self._reader.accept(announced)
        return Turn(b"")

    def _too_long(self, _beginning: bytes) -> Turn:
        return self._failed(b'NO "Command too long"\r\n')

    def _pipelined(self, _command: bytes) -> bytes:
        return self._bye("Nothing may follow STARTTLS before TLS")

    def _bye(self, why: str) -> bytes:
        return b'BYE "%b"\r\n' % why.encode()


_COMMANDS: Final[dict[bytes, Callable[[SieveDialogue, bytes], Turn]]] = {
    b"CAPABILITY": SieveDialogue._capability,
    b"NOOP": SieveDialogue._noop,
    b"LOGOUT": SieveDialogue._logout,
    b"STARTTLS": SieveDialogue._starttls,
    b"AUTHENTICATE": SieveDialogue._authenticate,
}


class _Read(NamedTuple):
    value: bytes
    end: int  # where it ended


def _read_string(data: bytes, start: int) -> _Read | None:
    """The string, in quotes or a literal, that begins at `start`; None where there is none."""
    match = _STRING.match(data, start)
    if match is None:
        return None
    if match[2] is None:
        return _Read(_ESCAPED.sub(rb"\1", match[1]), match.end())
    end = match.end() + int(match[2])
    return _Read(data[match.end() : end], end) if end <= len(data) else None


def _shown(value: bytes) -> bool:
    """Whether a client's string is text that can be said back on one line."""
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _string(value: bytes) -> bytes:
    """As a server says it."""
    if len(value) > QUOTED_CAP or any(byte in b"\r\n\0" for byte in value):
        return b"{%d}\r\n%b" % (len(value), value)
    return b'"%b"' % _SPECIALS.sub(rb"\\\1", value)


class _Block(NamedTuple):
    capabilities: list[tuple[bytes, bytes]]  # name in capitals, and the line as we write it
    ok: bytes

    def has(self, name: bytes) -> bool:
        return any(one == name for one, _ in self.capabilities)


def _block(ask: Ask) -> Generator[Ask, bytes, _Block]:
    """Capabilities up to the OK that ends them."""
    capabilities: list[tuple[bytes, bytes]] = []
    line = yield ask
    while (status := _STATUS.match(line)) is None:
        capabilities.append(_capability(line, ask))
        line = yield MORE
    if status[1].upper() == b"BYE" or (status[1].upper() == b"NO" and not ask.say):
        raise TurnedAway(f"{ask.awaited} is {quoted(line)}", line)
    if status[1].upper() != b"OK":
        raise ConversationError(f"{ask.awaited} is {quoted(line)}")
    return _Block(capabilities, without_ending(line) + b"\r\n")


def _capability(line: bytes, ask: Ask) -> tuple[bytes, bytes]:
    line = without_ending(line)
    name = _read_string(line, 0)
    if name is not None and name.end == len(line):
        return name.value.upper(), _string(name.value)
    value = _read_string(line, name.end + 1) if name is not None and line[name.end :].startswith(b" ") else None
    if name is None or value is None or value.end != len(line):
        raise ConversationError(f"{ask.awaited} is not ManageSieve: {quoted(line)}")
    return name.value.upper(), _string(name.value) + b" " + _string(value.value)


def _greeting() -> Generator[Ask, bytes, _Block]:
    return (yield from _block(Ask(b"", "its greeting")))


def _ok(command: bytes, verb: str) -> Generator[Ask, bytes, None]:
    line = yield Ask(command, f"its answer to {verb}")
    status = _STATUS.match(line)
    if status is None or status[1].upper() != b"OK":
        raise ConversationError(f"it answered {verb} with {quoted(line)}")


def _secure(block: _Block) -> Generator[Ask, bytes, _Block]:
    """The capabilities inside TLS, of a server that greeted with these."""
    if not block.has(b"STARTTLS"):
        raise ConversationError("it does not offer STARTTLS")
    yield from _ok(b"STARTTLS\r\n", "STARTTLS")
    yield SECURE
    return (yield from _block(Ask(b"", "its capabilities after STARTTLS")))


def _probe(*, starttls: bool) -> Script[Probed]:
    block = yield from _greeting()
    if starttls:
        block = yield from _secure(block)
    else:  # asked for once more: the answer shows that the two understand each other
        block = yield from _block(Ask(b"CAPABILITY\r\n", "its answer to CAPABILITY"))
    return probed(b"", [line for _, line in block.capabilities])


def _open(plan: Plan) -> Script[Opened]:
    block = yield from _greeting()
    if plan.starttls:
        block = yield from _secure(block)
    told = b"".join(line + b"\r\n" for name, line in block.capabilities if name not in (b"STARTTLS", b"XCLIENT"))
    return Opened(told + block.ok, told + block.ok)


class _Sieve(MailProtocol):
    name = "sieve"

    def probe(self, name: str, *, starttls: bool = False) -> Probe:
        return Conversation(_probe(starttls=starttls), ResponseReader(LINE_CAP), b"LOGOUT\r\n")

    def words(self, probed: Probed | None, name: str) -> Words:
        offered = (probed.capabilities if probed is not None else ()) or _OWN
        told = [one for one in offered if (string := _read_string(one, 0)) and string.value.upper() in _TOLD]
        capabilities = b"".join(b"%b\r\n" % one for one in (*told, *_BEFORE_TLS))
        return Words(name.encode(), capabilities + b"OK %b\r\n" % _string(f"{name} ready".encode()), capabilities)

    def dialogue(self, words: Words, *, require_tls: bool = True) -> Dialogue:
        if not require_tls:
            raise ValueError("ManageSieve before TLS has nothing that could be left to a backend")
        return SieveDialogue(words)

    def opening(self, plan: Plan) -> Opening:
        refuse_plain_text(plan)
        refuse_introduction(plan)
        return Conversation(_open(plan), ResponseReader(LINE_CAP))

    def farewell(self, why: Farewell, name: str) -> bytes:
        return _FAREWELLS[why]


SIEVE = _Sieve()
