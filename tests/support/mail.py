"""Both ends of proxy.starttls, played: a client in front of a dialogue, a server behind a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeVar

from proxy.starttls.conversation import Conversation, Stage
from proxy.starttls.dialogue import Turn, Verdict
from proxy.starttls.probe import Probed
from proxy.starttls.protocol import MailProtocol

NAME = "mx.example.com"
HANDSHAKE = b"(a TLS handshake)"  # in place of a server's words

Outcome = TypeVar("Outcome")
Pieces = Callable[[bytes], Iterable[bytes]]


class Client:
    """Somebody who speaks to a dialogue, and remembers what came of it last."""

    def __init__(self, protocol: MailProtocol, probed: Probed | None = None, *, require_tls: bool = True) -> None:
        self.dialogue = protocol.dialogue(protocol.words(probed, NAME), require_tls=require_tls)
        self.heard = self.dialogue.greeting
        self.turn = Turn(b"")

    def says(self, data: bytes) -> bytes:
        """The answer."""
        self.turn = self.dialogue.receive(data)
        return self.turn.answer

    def verdict(self) -> Verdict:
        """How the connection goes on."""
        return self.turn.verdict


def refused_behind(protocol: MailProtocol, command: bytes, behind: bytes) -> bytes:
    """What a client hears that goes on behind the command that begins TLS, the same wherever the bytes are cut.

    Cut right behind the command there is nothing to refuse yet: TLS begins, and finds what is no ClientHello.
    """
    said, answers = command + behind, set()
    for place in range(len(said)):
        client = Client(protocol)
        answer = client.says(said[:place])
        if place == len(command):
            assert client.verdict() is Verdict.TLS
            continue
        if place < len(command):
            assert (answer, client.verdict()) == (b"", Verdict.GO_ON)
            answer = client.says(said[place:])
        assert client.verdict() is Verdict.INJECTION
        answers.add(answer)
    (answer,) = answers
    return answer


def whole(data: bytes) -> Iterable[bytes]:
    return [data]


def single_bytes(data: bytes) -> Iterable[bytes]:
    return (bytes([byte]) for byte in data)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data cut at these places, taken modulo its length."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[one:other] for one, other in pairwise(edges)]


def play(
    conversation: Conversation[Outcome], *script: tuple[bytes, bytes], ending: bytes = b"", pieces: Pieces = whole
) -> Outcome:
    """The outcome of a conversation in which the server hears exactly what the script says, and answers so."""
    said = b""
    for expected, answer in script:
        assert said == expected
        if answer == HANDSHAKE:
            assert conversation.stage is Stage.SECURING
            said = conversation.secured()
        else:
            said = b"".join(conversation.receive(piece) for piece in pieces(answer))
    assert said == ending
    return conversation.outcome
