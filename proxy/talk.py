"""A conversation with a mail server on a new connection: see proxy.starttls.conversation, which says what is said.

The connection is handed over between two bytes: all that the server said was its part of the conversation, and what
comes next is the client's.
"""

from __future__ import annotations

import os
from socket import SocketType
from typing import Protocol

from proxy.backend_tls import ServerTls
from proxy.layer import PLAIN_TEXT, Buffer, Layer
from proxy.outlet import Outlet
from proxy.poller import Loop
from proxy.securing import Securing
from proxy.starttls.conversation import Conversation, ConversationError, Stage, TurnedAway
from proxy.starttls.opening import Opened
from proxy.starttls.probe import Probed
from proxy.tls_engine import TlsEngine, TlsError

READ_SIZE = 16 << 10  # bytes read at once
MAX_HELD = 64 << 10  # bytes of ours that a server may leave unread: OpenSSL answers KeyUpdates by itself

AnyConversation = Conversation[Opened] | Conversation[Probed]


class Party(Protocol):
    """Who has a conversation held. One of these is called, once, and then the socket is left alone."""

    def talked(self, engine: TlsEngine | None, unsent: bytes) -> None:
        """It is done. `engine`: the TLS that is spoken now; `unsent`: what the server is still to be sent, as it is."""

    def turned_away(self, error: TurnedAway) -> None:
        """The server will have nothing to do with this client."""

    def dropped(self, reason: str) -> None:
        """The server went away without a word, for this reason, in words."""

    def failed(self, reason: str) -> None:
        """It cannot be done, for this reason, in words."""


class Talk(Outlet):
    """One conversation, played once."""

    __slots__ = ("_conversation", "_engine", "_introduced", "_party", "_securing", "_tls")

    def __init__(
        self,
        loop: Loop,
        sock: SocketType,
        engine: TlsEngine | None,
        conversation: AnyConversation,
        tls: ServerTls | None,
        party: Party,
        *,
        introduced: bool,
    ) -> None:
        """`engine`: the TLS that is spoken already; `tls`: needed where the conversation is to begin it.

        `introduced`: the server was sent a PROXY header first.
        """
        super().__init__(loop, sock)
        self._engine = engine
        self._conversation = conversation
        self._tls = tls
        self._party = party
        self._introduced = introduced
        self._securing: Securing | None = None

    def begin(self, first: bytes) -> None:
        """Send `first` as it is, and wait for the server's greeting."""
        self._loop.add_reader(self.fd, self._readable)
        if first:
            self.send(first)
        if self._engine is not None and self._is_talking:
            self._hear(b"")  # the handshake's last bytes may have had the greeting behind them

    def stop(self) -> None:
        """Leave the socket alone."""
        if self._securing is not None:
            self._securing.stop()
        self._loop.remove_reader(self.fd)
        self.drop()

    def drained(self) -> None:
        """See Outlet: nothing waits for it."""

    def send_failed(self) -> None:
        """See Outlet. What the server has to say, or its end, is read all the same."""

    @property
    def _is_talking(self) -> bool:
        return self._conversation.stage is Stage.TALKING

    def _readable(self) -> None:
        try:
            data = self.socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._dropped(f"{os.strerror(error.errno or 0)}, in place of {self._conversation.awaited}")
            return
        if data:
            self._hear(data)
        else:
            self._dropped(f"it closed the connection in place of {self._conversation.awaited}")

    def _hear(self, data: bytes) -> None:
        layer: Layer = self._engine or PLAIN_TEXT
        try:
            while True:
                heard = bytes(layer.decode(data))
                self._send(layer.output())
                if heard:
                    self._say(self._conversation.receive(heard))
                if not (layer.more and self._is_talking):
                    break
                data = b""
        except TurnedAway as error:
            self.stop()
            self._party.turned_away(error)
        except ConversationError as error:
            self._fail(f"{error}{self._doubt}")
        except TlsError as error:
            self._send(layer.output())
            self._fail(f"it broke TLS ({error})")
        else:
            if self.held > MAX_HELD:
                self._fail(f"it reads nothing, in place of saying {self._conversation.awaited}")
            elif layer.ended and self._is_talking:
                self._fail(f"it ended TLS in place of {self._conversation.awaited}")
            else:
                self._go_on()

    def _go_on(self) -> None:
        """See whose turn it is."""
        if self._conversation.stage is Stage.SECURING:
            assert self._tls is not None
            self._loop.remove_reader(self.fd)
            self._securing = Securing(self._loop, self.socket, self._tls.begin(), self._secured, self._fail)
            self._securing.begin(b"")
        elif self._conversation.stage is Stage.DONE:
            unsent = self.unsent
            self.stop()
            self._party.talked(self._engine, unsent)

    def _secured(self, engine: TlsEngine, unsent: bytes) -> None:
        self._engine, self._securing = engine, None
        self._loop.add_reader(self.fd, self._readable)
        self._send(unsent)
        self._say(self._conversation.secured())
        if self._is_talking:
            self._hear(b"")  # the server may have spoken with its handshake's last bytes
        else:
            self._go_on()

    def _say(self, words: bytes) -> None:
        if words:
            self._send(words if self._engine is None else self._engine.encode(words))

    def _send(self, data: Buffer) -> None:
        if data:
            self.send(data)

    @property
    def _doubt(self) -> str:
        """What else than the server may be wrong: a PROXY header, of which only one side knows."""
        if self._introduced:
            return "; it was sent a PROXY header, does it expect one from here? Its log may say"
        if self._conversation.has_heard_nothing:
            return "; does it expect a PROXY header (client_address)? Its log may say"
        return ""

    def _dropped(self, reason: str) -> None:
        self.stop()
        self._party.dropped(reason + self._doubt)

    def _fail(self, reason: str) -> None:
        self.stop()
        self._party.failed(reason)
