"""What comes before the ClientHello: a trusted proxy's PROXY header, a mail protocol's dialogue, or both.

    INTRODUCTION   the PROXY header is read, as part of the handshake: its deadline is handshake_timeout's
    DIALOGUE       the client speaks its protocol, to snigate alone: its deadline is preamble_timeout's
    GO_AHEAD       the client was told to begin TLS, and has not; still the same deadline

Neither deadline is moved by anything the client does. The preface reads; all else it leaves to its session.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from proxy.account import Account
from proxy.backend import Endpoint
from proxy.introduction import complain
from proxy.proxy_header import ProxyHeaderError, ProxyHeaderReader
from proxy.service import Service
from proxy.starttls.dialogue import Dialogue, Farewell, Turn, Verdict

_TLS_RECORD = 0x16  # a handshake record's first byte, RFC 8446 section 5.1; no mail command begins so


class Stage(Enum):
    """See above."""

    INTRODUCTION = "introduction"
    DIALOGUE = "dialogue"
    GO_AHEAD = "go-ahead"


class Owner(Protocol):
    """What a preface asks of its session."""

    account: Account

    def introduced(self, client: Endpoint | None, destination: Endpoint | None) -> bool:
        """This is who the client is; None: whoever the peer is. False: there is no room, and the session is over."""

    def say(self, words: bytes) -> None:
        """Send in plain text. Where that fails the session is over, and does nothing that is asked of it afterwards."""

    def begin_hello(self, data: bytes, began: float | None = None) -> None:
        """TLS begins, with these bytes, which may be none yet.

        `began`: when the handshake did, in the loop's time, where that is not when the connection did.
        """

    def go_on_in_plain_text(self, turn: Turn) -> None:
        """There is no TLS: open the backend."""

    def leave(self, reason: str = "") -> None:
        """The client has left, or is to leave, in good order; `reason` is for the log."""

    def fail(self, reason: str) -> None:
        """It comes to nothing, for this key of HANDSHAKE_FAILURES."""

    def overdue(self) -> None:
        """See Waiting."""


class Preface:
    """One session's preface."""

    __slots__ = ("_dialogue", "_introduction", "_owner", "_service", "_stage")

    def __init__(self, service: Service, owner: Owner, introduction: ProxyHeaderReader | None) -> None:
        self._service = service
        self._owner = owner
        self._introduction = introduction
        self._dialogue: Dialogue | None = None
        self._stage = Stage.INTRODUCTION

    def begin(self) -> None:
        """Say what there is to say before the client speaks."""
        if self._introduction is None:
            self._go_on(b"")

    def receive(self, data: bytes) -> None:
        """Take what the client, or its proxy, has sent."""
        if self._stage is Stage.INTRODUCTION:
            self._introduce(data)
        elif self._stage is Stage.DIALOGUE:
            self._converse(data)
        else:
            self._begin_hello(data)

    def ended(self) -> None:
        """The client has gone away."""
        if self._stage is Stage.DIALOGUE:
            self._leave()
        else:
            self._owner.fail("disconnected")

    def overdue(self) -> None:
        """The deadline has come."""
        self._part("timeout" if self._stage is Stage.INTRODUCTION else "preamble_timeout", Farewell.TIMEOUT)

    def cut(self) -> None:
        """The worker stops."""
        self._part("draining", Farewell.SHUTTING_DOWN)

    def _part(self, reason: str, why: Farewell) -> None:
        if self._stage is Stage.DIALOGUE:
            assert self._service.mail is not None
            self._owner.say(self._service.mail.farewell(why))
        self._owner.fail(reason)

    def _leave(self) -> None:
        assert self._dialogue is not None
        self._owner.leave("login_before_tls" if self._dialogue.login_refused else "")

    def _introduce(self, data: bytes) -> None:
        introduction, service, owner = self._introduction, self._service, self._owner
        assert introduction is not None
        try:
            header = introduction.feed(data)
        except ProxyHeaderError as error:
            complain(service.complaints, service.loop.time(), owner.account, error)
            owner.fail(error.reason)
            return
        if header is not None and owner.introduced(header.source, header.destination):
            self._introduction = None
            self._go_on(introduction.rest)

    def _go_on(self, data: bytes) -> None:
        """The client speaks for itself from here, and has said this."""
        mail, service = self._service.mail, self._service
        if mail is None or not service.speaks_first:
            self._owner.begin_hello(data)
            return
        self._stage = Stage.DIALOGUE
        service.handshakes.clear(self._owner)
        service.prefaces.set(self._owner, service.loop.time())
        self._dialogue = mail.dialogue()
        self._owner.say(self._dialogue.greeting)
        if data:
            self._converse(data)

    def _converse(self, data: bytes) -> None:
        dialogue, owner = self._dialogue, self._owner
        assert dialogue is not None
        if data[0] == _TLS_RECORD and not dialogue.held:
            owner.fail("tls_at_once")
            return
        turn = dialogue.receive(data)
        owner.say(turn.answer)
        match turn.verdict:
            case Verdict.GO_ON:
                pass
            case Verdict.TLS:
                self._stage = Stage.GO_AHEAD
            case Verdict.PLAIN:
                self._service.prefaces.clear(owner)
                owner.go_on_in_plain_text(turn)
            case Verdict.GOODBYE:
                self._leave()
            case Verdict.SPOILT:
                owner.fail("dialogue_spoilt")
            case Verdict.INJECTION:
                owner.fail("starttls_injection")

    def _begin_hello(self, data: bytes) -> None:
        service = self._service
        now = service.loop.time()
        service.prefaces.clear(self._owner)
        service.handshakes.set(self._owner, now)
        self._owner.begin_hello(data, now)
