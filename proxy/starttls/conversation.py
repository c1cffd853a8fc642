"""Talking to a mail server before it hears its client: the server's bytes in, bytes to the server out.

What is to be said is a script, a generator that reads like the conversation: it yields what it asks, is sent the
server's next line, and yields MORE while the answer is not complete. Every such conversation begins with the server's
greeting and goes step by step, so a rule holds for all of them at one place: **whoever is asked says its answer and no
more**. Bytes behind an answer, where the next thing is ours to say, would be taken for the answer to it, and bytes
behind a go-ahead to TLS for something said under TLS (CVE-2021-38371). They end the conversation, where they have come
by then; what comes later in plain text is no TLS record, and is refused as such.

The script returns what was to be found out or done. What it does not like it raises, in words that fit behind the
server's name: "it greeted with ...".
"""

from __future__ import annotations

from collections.abc import Generator
from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeVar

from proxy.starttls.lines import Announced, TooLong

LINE_CAP = 8 << 10  # bytes of one line of a server, or of one response with its literals
CAP = 64 << 10  # bytes of a server in one conversation
QUOTED = 160  # bytes of a server's words in a message

Outcome = TypeVar("Outcome")


class ConversationError(Exception):
    """The server is none to send clients to; the text says why, and fits behind its name."""


class TurnedAway(ConversationError):  # noqa: N818 - what happened
    """The server serves others, but not this client, and has told why: `words`, which are for the client to hear."""

    def __init__(self, message: str, words: bytes) -> None:
        super().__init__(message)
        self.words = words


class Ask(NamedTuple):
    """What the server is sent, and what it owes then, such as "its greeting"."""

    say: bytes
    awaited: str


# These two are told from others of the same words by which object they are.
MORE = Ask(b"", "")  # the answer goes on
SECURE = Ask(b"", "the TLS handshake")  # TLS begins, and the script goes on inside it, with an empty line

Script = Generator[Ask, bytes, Outcome]


class Stage(Enum):
    """Whose turn it is."""

    TALKING = "talking"  # the server's
    SECURING = "securing"  # TLS's: `secured` is called when it is there
    DONE = "done"
    FAILED = "failed"


class Reader(Protocol):
    """What cuts the server's bytes into lines: see proxy.starttls.lines."""

    @property
    def pending(self) -> bytes:
        """What was fed and not read."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    def next(self) -> bytes | Announced | None:
        """The next line; None when more is needed. Raises TooLong."""


class Conversation(Generic[Outcome]):
    """One script, played once with one server. Connect, then wait for the server: it speaks first."""

    __slots__ = ("_awaited", "_outcome", "_parting", "_reader", "_received", "_script", "stage")

    def __init__(self, script: Script[Outcome], reader: Reader, parting: bytes = b"") -> None:
        """`parting` is said when all is done."""
        self._script = script
        self._reader = reader
        self._parting = parting
        self._received = 0  # bytes
        self._outcome: list[Outcome] = []
        self._awaited = next(script).awaited
        self.stage = Stage.TALKING

    @property
    def outcome(self) -> Outcome:
        """What came of it, when it is done."""
        if self.stage is not Stage.DONE:
            raise RuntimeError(f"nothing has come of the conversation yet: it is {self.stage.value}")
        return self._outcome[0]

    @property
    def awaited(self) -> str:
        """What the server owes, in words: for a message that says it did not come in time, or not at all."""
        return self._awaited

    @property
    def has_heard_nothing(self) -> bool:
        """Whether the server has not said a byte."""
        return not self._received

    @property
    def held(self) -> int:
        """Bytes that are kept of an incomplete line."""
        return len(self._reader.pending)

    def receive(self, data: bytes) -> bytes:
        """Take what the server said; what it is to be sent now. `stage` says how to go on.

        Raises ConversationError, and RuntimeError where the server has no turn.
        """
        if self.stage is not Stage.TALKING:
            raise RuntimeError(f"the server has no turn: the conversation is {self.stage.value}")
        self._received += len(data)
        try:
            if self._received > CAP:
                raise ConversationError(f"it said more than {CAP} bytes before {self._awaited} was complete")
            return self._hear(data)
        except ConversationError:
            self.stage = Stage.FAILED
            raise

    def secured(self) -> bytes:
        """The TLS handshake is done; what the server is to be sent inside it."""
        if self.stage is not Stage.SECURING:
            raise RuntimeError(f"TLS was not asked for: the conversation is {self.stage.value}")
        self.stage = Stage.TALKING
        return self._go_on(b"")

    def _hear(self, data: bytes) -> bytes:
        self._reader.feed(data)
        while self.stage is Stage.TALKING:
            try:
                line = self._reader.next()
            except TooLong:
                raise ConversationError(f"a line of {self._awaited} is longer than {LINE_CAP} bytes") from None
            if line is None:
                return b""
            if isinstance(line, Announced):
                raise ConversationError(f"a literal in {self._awaited} is longer than {LINE_CAP} bytes")
            say = self._go_on(line)
            if say:
                return say
        return self._parting if self.stage is Stage.DONE else b""

    def _go_on(self, line: bytes) -> bytes:
        """Give the script its line; what it says then."""
        try:
            ask = self._script.send(line)
        except StopIteration as stop:
            self._insist_on_silence()
            self.stage = Stage.DONE
            self._outcome.append(stop.value)
            return b""
        if ask is not MORE:
            self._insist_on_silence()
            self._awaited = ask.awaited
        if ask is SECURE:
            self.stage = Stage.SECURING
        return ask.say

    def _insist_on_silence(self) -> None:
        beyond = self._reader.pending
        if beyond:
            raise ConversationError(f"it said more than {self._awaited}: {quoted(beyond)}")


def quoted(words: bytes) -> str:
    """A server's words for a message: one line of printable characters, cut where it is long."""
    text = words.rstrip(b"\r\n")
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[:QUOTED].decode(errors="backslashreplace")
    )
    return f'"{shown}{"..." if len(text) > QUOTED else ""}"'
