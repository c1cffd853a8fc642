"""What is said to a client before TLS: its bytes in, snigate's answers out, and how the connection goes on.

    receive(bytes) -> Turn(answer, verdict)

The answer is to be sent whatever the verdict is. GO_ON: more is to be read. TLS: the go-ahead is in the answer, and the
client's next byte is its ClientHello's. PLAIN: the backend is to be opened in plain text, and given what the client has
said. The others close, and the answer ends with the protocol's words for it: GOODBYE, the client's own wish; SPOILT, by
too many errors, commands or bytes; INJECTION, see below. After any verdict but GO_ON the dialogue is over.

**Nothing may follow the command that begins TLS** in the bytes that it came in. A client waits for the go-ahead; who
does not is somebody in between, whose plain text would be taken for the client's secured words (CVE-2011-0411). Refused
and closed, since to drop such bytes silently would hide the attack. What comes in later bytes is not this module's: it
goes to the TLS engine, which refuses what is no ClientHello.

A dialogue knows one backend's words and nothing of its own connection. It keeps a line at most, takes a number of
commands and of errors, and leaves deadlines to its caller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import NamedTuple

from proxy.starttls.conversation import Reader
from proxy.starttls.lines import Announced, TooLong

MAX_COMMANDS = 50  # before TLS, and literals; a client needs two or three
MAX_ERRORS = 10


class Verdict(Enum):
    """How the connection goes on."""

    GO_ON = "go on"
    TLS = "tls"
    PLAIN = "plain"
    GOODBYE = "goodbye"
    SPOILT = "spoilt"
    INJECTION = "injection"


class Turn(NamedTuple):
    """What came of a client's bytes. `hello` and `rest` are of PLAIN alone."""

    answer: bytes
    verdict: Verdict = Verdict.GO_ON
    hello: bytes = b""  # what the backend is to be told again, its answer swallowed: Plan.hello; empty: nothing
    rest: bytes = b""  # what the client has said beyond, to the last byte


class Words(NamedTuple):
    """What a listener's clients are told before TLS, made once for many dialogues."""

    name: bytes
    greeting: bytes
    capabilities: bytes  # as the protocol's answer has them, with their line endings


class Farewell(Enum):
    """Why a connection ends, where a client can be told: before TLS, or after it until the backend speaks."""

    TIMEOUT = "timeout"
    SHUTTING_DOWN = "shutting down"
    BACKEND_DOWN = "backend down"


class Dialogue(ABC):
    """One client's, used once. A protocol says how commands are read and answered."""

    __slots__ = ("_commands", "_errors", "_reader", "_verdict", "_words", "login_refused")

    def __init__(self, words: Words, reader: Reader) -> None:
        self._words = words
        self._reader = reader
        self._commands = 0
        self._errors = 0
        self._verdict = Verdict.GO_ON
        self.login_refused = False  # the client has tried to log in without TLS

    @property
    def greeting(self) -> bytes:
        """What the client is sent first."""
        return self._words.greeting

    @property
    def held(self) -> int:
        """Bytes that are kept of an incomplete command."""
        return len(self._reader.pending)

    def receive(self, data: bytes) -> Turn:
        """Take what the client said. RuntimeError after a verdict other than GO_ON."""
        if self._verdict is not Verdict.GO_ON:
            raise RuntimeError(f"the dialogue has come to its end, which was {self._verdict.value!r}")
        self._reader.feed(data)
        answers = []
        while (turn := self._next()) is not None:
            answers.append(turn.answer)
            if turn.verdict is not Verdict.GO_ON:
                self._verdict = turn.verdict
                return turn._replace(answer=b"".join(answers))
        return Turn(b"".join(answers))

    def _next(self) -> Turn | None:
        try:
            command = self._reader.next()
        except TooLong as error:
            return self._too_long(error.beginning)
        if command is None:
            return None
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            return self._close("Too many commands")
        if isinstance(command, Announced):
            return self._announced(command)
        turn = self._take(command)
        if turn.verdict is Verdict.TLS and self._reader.pending:
            return Turn(self._pipelined(command), Verdict.INJECTION)
        return turn

    def _failed(self, answer: bytes) -> Turn:
        """The client made an error, and is told; too many end the dialogue."""
        self._errors += 1
        if self._errors < MAX_ERRORS:
            return Turn(answer)
        return self._close("Too many errors", answer)

    def _refuse_login(self, answer: bytes) -> Turn:
        """The client is told that its password is not wanted before TLS."""
        self.login_refused = True
        return self._failed(answer)

    def _close(self, why: str, answer: bytes = b"") -> Turn:
        return Turn(answer + self._bye(why), Verdict.SPOILT)

    def _announced(self, announced: Announced) -> Turn:
        """A literal is announced, which only some protocols have."""
        raise NotImplementedError

    @abstractmethod
    def _take(self, command: bytes) -> Turn:
        """Answer one whole command, its line ending included."""

    @abstractmethod
    def _too_long(self, beginning: bytes) -> Turn:
        """Answer a command that is longer than the protocol allows."""

    @abstractmethod
    def _pipelined(self, command: bytes) -> bytes:
        """What is said to a client that went on behind the command that begins TLS, given here: error and goodbye."""

    @abstractmethod
    def _bye(self, why: str) -> bytes:
        """The protocol's words for the end of a session that the client has spoilt."""
