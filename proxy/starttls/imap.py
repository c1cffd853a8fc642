"""IMAP (RFC 9051, RFC 3501) before and around STARTTLS (RFC 9051 section 6.2.1).

Before TLS the capabilities say LOGINDISABLED, and whoever logs in all the same is refused with [PRIVACYREQUIRED] (RFC
5530). A literal's octets are invited for ID alone: a client that announces its password in another command gets the
answer to that command instead of the invitation (RFC 9051 section 4.3), and keeps the password to itself. A literal
that comes uninvited (RFC 7888) is read and let go; one that is too long ends the session, as section 4 there allows.
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
from proxy.starttls.lines import Announced, LiteralReader, ResponseReader, without_ending
from proxy.starttls.opening import Introduction, Opened, Opening, Plan, bare_address, refuse_plain_text
from proxy.starttls.probe import Probe, Probed, keywords, printable, probed
from proxy.starttls.protocol import MailProtocol

COMMAND_CAP: Final = 8192  # bytes with literals; RFC 7162 section 4
TAG_CAP: Final = 64  # bytes

_OWN: Final = (b"IMAP4rev1", b"ID")
_BEFORE_TLS: Final = (b"STARTTLS", b"LOGINDISABLED")
_NOT_TOLD: Final = re.compile(rb"(?i)AUTH=.*|STARTTLS|LOGINDISABLED|COMPRESS=.*|X-?(?:CLIENT|FORWARD).*")
_FAREWELLS: Final = {
    Farewell.TIMEOUT: b"* BYE Timed out\r\n",
    Farewell.SHUTTING_DOWN: b"* BYE [UNAVAILABLE] Shutting down, try again later\r\n",
    Farewell.BACKEND_DOWN: b"* BYE [UNAVAILABLE] The mail server cannot be reached, try again later\r\n",
}
_TAG: Final = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,%d}" % TAG_CAP)
_GREETING: Final = re.compile(rb"(?is)\* (OK|PREAUTH|BYE)(?: \[[^\]]*\])?(?: (.*?))?\r?\n")
_QUOTED_SPECIALS: Final = re.compile(rb'(["\\])')


class ImapDialogue(Dialogue):
    """See proxy.starttls.dialogue."""

    __slots__ = ()
    _reader: LiteralReader

    def __init__(self, words: Words) -> None:
        super().__init__(words, LiteralReader(COMMAND_CAP))

    def _take(self, command: bytes) -> Turn:
        tag, verb, argument = _split(command)
        if not tag:
            return self._failed(b"* BAD A command begins with a tag\r\n")
        return _COMMANDS.get(verb, ImapDialogue._unknown)(self, tag, argument)

    def _capability(self, tag: bytes, argument: bytes) -> Turn:
        if argument:
            return self._superfluous(tag)
        return Turn(b"* CAPABILITY %b\r\n%b OK Capability completed\r\n" % (self._words.capabilities, tag))

    def _noop(self, tag: bytes, argument: bytes) -> Turn:
        return self._superfluous(tag) if argument else Turn(tag + b" OK NOOP completed\r\n")

    def _id(self, tag: bytes, argument: bytes) -> Turn:
        if not argument:
            return self._failed(tag + b" BAD ID needs a list, or NIL\r\n")
        return Turn(b"* ID NIL\r\n" + tag + b" OK ID completed\r\n")

    def _logout(self, tag: bytes, argument: bytes) -> Turn:
        if argument:
            return self._superfluous(tag)
        return Turn(b"* BYE Logging out\r\n" + tag + b" OK Logout completed\r\n", Verdict.GOODBYE)

    def _starttls(self, tag: bytes, argument: bytes) -> Turn:
        if argument:
            return self._superfluous(tag)
        return Turn(tag + b" OK Begin TLS negotiation now\r\n", Verdict.TLS)

    def _login(self, tag: bytes, _argument: bytes) -> Turn:
        return self._refuse_login(
            tag + b" NO [PRIVACYREQUIRED] Passwords are taken under TLS only; say STARTTLS first\r\n"
        )

    def _unknown(self, tag: bytes, _argument: bytes) -> Turn:
        return self._failed(tag + b" BAD Before TLS there are CAPABILITY, ID, NOOP, STARTTLS and LOGOUT\r\n")

    def _superfluous(self, tag: bytes) -> Turn:
        return self._failed(tag + b" BAD This command takes no arguments\r\n")

    def _announced(self, announced: Announced) -> Turn:
        tag, verb, _ = _split(announced.so_far)
        if not announced.fits:
            return self._too_long(announced.so_far) if not announced.unasked else self._close("A literal is too long")
        if announced.unasked or (tag and verb == b"ID"):
            self._reader.accept(announced)
            return Turn(b"" if announced.unasked else b"+ Ready for more\r\n")
        return self._take(announced.so_far)

    def _too_long(self, beginning: bytes) -> Turn:
        return self._failed((_split(beginning)[0] or b"*") + b" BAD Command too long\r\n")

    def _pipelined(self, command: bytes) -> bytes:
        return _split(command)[0] + b" BAD Nothing may follow STARTTLS before TLS\r\n" + self._bye("Closing")

    def _bye(self, why: str) -> bytes:
        return b"* BYE %b\r\n" % why.encode()


_COMMANDS: Final[dict[bytes, Callable[[ImapDialogue, bytes, bytes], Turn]]] = {
    b"CAPABILITY": ImapDialogue._capability,
    b"NOOP": ImapDialogue._noop,
    b"ID": ImapDialogue._id,
    b"LOGOUT": ImapDialogue._logout,
    b"STARTTLS": ImapDialogue._starttls,
    b"LOGIN": ImapDialogue._login,
    b"AUTHENTICATE": ImapDialogue._login,
}


def _split(command: bytes) -> tuple[bytes, bytes, bytes]:
    """Tag, command in capitals, and arguments. The tag is empty where it is none that could be said back."""
    tag, _, rest = without_ending(command).partition(b" ")
    verb, _, argument = rest.partition(b" ")
    return (tag if _TAG.fullmatch(tag) else b""), verb.upper(), argument


def _greeting() -> Generator[Ask, bytes, bytes]:
    """The text of the server's greeting, without the code before it."""
    line = yield Ask(b"", "its greeting")
    match = _GREETING.fullmatch(line)
    if match is not None and match[1].upper() == b"BYE":
        raise TurnedAway(f"it greeted with {quoted(line)}", line)
    if match is None:
        raise ConversationError(f"it greeted with {quoted(line)}, which is not IMAP")
    if match[1].upper() != b"OK":
        raise ConversationError(f"it greeted with {quoted(line)}, so whoever connects is logged in")
    return match[2] or b""


def _tagged(tag: bytes, command: bytes, verb: str) -> Generator[Ask, bytes, list[bytes]]:
    """The untagged responses to a command that succeeds."""
    line = yield Ask(tag + b" " + command + b"\r\n", f"its answer to {verb}")
    untagged = []
    while not line.startswith(tag + b" "):
        if not line.startswith(b"* ") or line.upper().startswith((b"* BYE", b"* BAD")):
            raise ConversationError(f"it answered {verb} with {quoted(line)}")
        untagged.append(line)
        line = yield MORE
    if line[len(tag) + 1 :].split()[:1] not in ([b"OK"], [b"ok"]):
        raise ConversationError(f"it answered {verb} with {quoted(line)}")
    return untagged


def _capabilities(response: bytes) -> list[bytes]:
    """Those of a capability response, without its asterisk; none of anything else."""
    words = response.split()
    return keywords(words[1:]) if words and words[0].upper() == b"CAPABILITY" else []


def _secure() -> Generator[Ask, bytes, None]:
    yield from _tagged(b"S", b"STARTTLS", "STARTTLS")
    yield SECURE


def _probe(*, starttls: bool) -> Script[Probed]:
    text = yield from _greeting()
    if starttls:
        yield from _secure()
    found = []  # asked for even where the greeting had them: the answer shows that the two understand each other
    for response in (yield from _tagged(b"C", b"CAPABILITY", "CAPABILITY")):
        found += _capabilities(response[2:])
    return probed(text, found)


def _open(plan: Plan) -> Script[Opened]:
    text = yield from _greeting()
    if plan.starttls:
        yield from _secure()
    if plan.introduction is not None:
        yield from _tagged(b"I", _id(plan.introduction), "ID")
    # Without the capabilities in it, which hold no longer: the client asks for those that do.
    return Opened(b"* OK %b\r\n" % (printable(text) or b"Ready"), b"")


def _id(introduction: Introduction) -> bytes:
    """The client's addresses, as Dovecot takes them from its login_trusted_networks; others let them go unread.

    Dovecot believes the first ID, and lets the client's own go unread.

    x-client-transport is new in 2.4: it makes the session a secured one, as the SSL TLV of a PROXY header does.
    """
    said = {
        b"x-originating-ip": bare_address(introduction.client[0]),
        b"x-originating-port": b"%d" % introduction.client[1],
        b"x-connected-ip": bare_address(introduction.local[0]),
        b"x-connected-port": b"%d" % introduction.local[1],
        b"x-session-id": introduction.id.encode(),
        b"x-client-transport": b"TLS" if introduction.secured else b"insecure",
    }
    if introduction.server_name is not None:
        said[b"x-connected-name"] = introduction.server_name.encode()
    return b"ID (%b)" % b" ".join(_string(key) + b" " + _string(value) for key, value in said.items())


def _string(value: bytes) -> bytes:
    return b'"%b"' % _QUOTED_SPECIALS.sub(rb"\\\1", printable(value))


class _Imap(MailProtocol):
    name = "imap"

    def probe(self, name: str, *, starttls: bool = False) -> Probe:
        return Conversation(_probe(starttls=starttls), ResponseReader(LINE_CAP), b"L LOGOUT\r\n")

    def words(self, probed: Probed | None, name: str) -> Words:
        text, offered = probed or Probed(f"{name} ready".encode(), ())
        told = [one for one in offered or _OWN if not _NOT_TOLD.fullmatch(one)]
        capabilities = b" ".join((*told, *_BEFORE_TLS))
        return Words(name.encode(), b"* OK [CAPABILITY %b] %b\r\n" % (capabilities, text or b"Ready"), capabilities)

    def dialogue(self, words: Words, *, require_tls: bool = True) -> Dialogue:
        if not require_tls:
            raise ValueError("IMAP before TLS has nothing that could be left to a backend")
        return ImapDialogue(words)

    def opening(self, plan: Plan) -> Opening:
        refuse_plain_text(plan)
        return Conversation(_open(plan), ResponseReader(LINE_CAP))

    def farewell(self, why: Farewell, name: str) -> bytes:
        return _FAREWELLS[why]


IMAP = _Imap()
