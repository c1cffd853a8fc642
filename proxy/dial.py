"""Connecting to one server: its addresses one after the other, each with a non-blocking connect.

    CONNECTING    until the kernel says how the connect went: at once where the server is on this machine
    SECURING      only where the server has TLS: until the handshake is done and the certificate verified
    TALKING       only where a mail server is told something before its client's stream: until it has been
    OVER          the taker was told, or the dial was cancelled

One deadline covers connecting and securing, and each address gets its equal share of what is left for its connect. A
mail server may take its time to greet, and be slow on purpose, so a conversation has a deadline of its own. Nothing of
the client's has been sent, so an address that fails costs nothing but time.

A server that was told who the client is may drop it without a word, because of who it is. That speaks neither for the
server nor against it: a stranger whom it does not want must not take it out of service for the others.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from enum import Enum
from socket import SocketType

from proxy.backend import Connected, Taker
from proxy.backend_tls import ServerTls
from proxy.bare_socket import stream
from proxy.poller import Loop
from proxy.securing import Securing
from proxy.server import Server, ServerAddress
from proxy.starttls.conversation import TurnedAway
from proxy.starttls.opening import Opened, Opening
from proxy.talk import Talk
from proxy.tls_engine import TlsEngine

RETRY_UNIX = 0.02  # seconds between attempts while a Unix socket's queue is full
TALK_TIMEOUT = 60.0  # seconds for a conversation, STARTTLS included; its client waits meanwhile

Converse = Callable[[], Opening]  # begins a conversation with one server
Heard = Opened | None


class State(Enum):
    """Where a dial is in its life."""

    CONNECTING = "connecting"
    SECURING = "securing"
    TALKING = "talking"
    OVER = "over"


class ServerDial:
    """One attempt to reach a server. Tells its taker what came of it, which may be before `begin` returns."""

    __slots__ = (
        "_address",
        "_conversation",
        "_converse",
        "_deadline",
        "_header",
        "_is_told",
        "_loop",
        "_server",
        "_socket",
        "_step",
        "_taker",
        "_timeout",
        "_timer",
        "_tls",
        "_tried",
        "state",
    )

    def __init__(
        self,
        loop: Loop,
        server: Server,
        tls: ServerTls | None,
        header: bytes,
        timeout: float,
        taker: Taker,
        converse: Converse | None = None,
        *,
        is_told: bool = False,
    ) -> None:
        """`header` goes before everything else; where nothing is said to the server it is left to the taker to send.

        `is_told`: the server is told who the client is, by the header or in the conversation.
        The connection that is taken holds a place of the server's address alone.
        """
        self._loop = loop
        self._server = server
        self._tls = tls
        self._header = header
        self._timeout = timeout
        self._taker = taker
        self._converse = converse
        self._is_told = is_told
        self._conversation: Opening | None = None
        self._deadline = 0.0
        self._tried: tuple[ServerAddress, ...] = ()
        self._address: ServerAddress | None = None
        self._socket: SocketType | None = None
        self._step: Securing | Talk | None = None
        self._timer: asyncio.Handle | None = None
        self.state = State.CONNECTING

    def begin(self) -> None:
        """Begin with the server's first address."""
        now = self._loop.time()
        self._deadline = now + self._timeout
        self._tried = ()
        self._next("its name does not resolve", now)

    def cancel(self) -> None:
        """See Dial.cancel."""
        if self.state is not State.OVER:
            self.state = State.OVER
            if self._address is not None:
                self._address.abandoned()
            self._drop()

    def _next(self, reason: str, now: float) -> None:
        """Go on with the next address; where there is none, all have failed, the last for `reason`."""
        self.state = State.CONNECTING
        self._address = address = self._server.addresses.choose(now, self._tried)
        if address is None:
            self._timer = self._loop.call_soon(self._give_up, reason)
            return
        family = address.target[0]
        try:
            self._socket = sock = stream(family)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self._fail_soon(error.errno)
            return
        self._connect(sock, address)

    def _connect(self, sock: SocketType, address: ServerAddress) -> None:
        if sock is not self._socket:  # given up since
            return
        code = sock.connect_ex(address.target[1])
        if code == errno.EINPROGRESS:  # asked again, the kernel says how it goes; on this machine, it is done
            code = sock.connect_ex(address.target[1])
        if code in (0, errno.EISCONN):
            self._made(sock)
        elif code in (errno.EALREADY, errno.EINPROGRESS):
            self._loop.add_writer(sock.fileno(), self._settled)
            self._wait()
        elif code == errno.EAGAIN:  # a Unix socket whose queue is full does not announce when it is not
            self._loop.call_later(RETRY_UNIX, self._connect, sock, address)
            self._wait()
        else:
            self._fail_soon(code)

    def _wait(self) -> None:
        """Give the address its share of the time, if it has not got it yet."""
        if self._timer is None:
            left = max(len(self._server.addresses.members) - len(self._tried), 1)  # this one included
            share = (self._deadline - self._loop.time()) / left
            self._timer = self._loop.call_later(share, self._failed, f"no answer within {share:.2g} s")

    def _settled(self) -> None:
        sock = self._socket
        assert sock is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(os.strerror(code))
        else:
            self._loop.remove_writer(sock.fileno())
            self._made(sock)

    def _made(self, sock: SocketType) -> None:
        """The connection is made; TLS may be next."""
        if self._timer is not None:
            self._stop_timer()
        if self._tls is None or self._tls.by_starttls:
            if self._converse is None:
                self.talked(None, self._header)
            else:
                self._speak(None, self._header)
            return
        self.state = State.SECURING
        self._timer = self._loop.call_at(
            self._deadline, self._failed, f"the TLS handshake was not done within {self._timeout:g} s"
        )
        self._step = securing = Securing(self._loop, sock, self._tls.begin(), self._speak, self._failed)
        securing.begin(self._header)

    def _speak(self, engine: TlsEngine | None, first: bytes) -> None:
        """The server can be spoken to; a conversation may be next."""
        if self._converse is None:
            self.talked(engine, first)
            return
        if self._timer is not None:
            self._stop_timer()
        sock = self._socket
        assert sock is not None
        self.state = State.TALKING
        self._conversation = self._converse()
        self._timer = self._loop.call_later(TALK_TIMEOUT, self._talk_overdue)
        introduced = bool(self._header)
        self._step = talk = Talk(self._loop, sock, engine, self._conversation, self._tls, self, introduced=introduced)
        talk.begin(first)

    def _talk_overdue(self) -> None:
        assert self._conversation is not None
        self._failed(f"{self._conversation.awaited} had not come after {TALK_TIMEOUT:g} s")

    def dropped(self, reason: str) -> None:
        """See Party."""
        self._failed(reason, blameless=self._is_told)

    def failed(self, reason: str) -> None:
        """See Party."""
        self._failed(reason)

    def turned_away(self, error: TurnedAway) -> None:
        """See Party. The address is as good as any."""
        address = self._address
        assert address is not None
        self._drop()
        self.state = State.OVER
        address.succeeded()
        address.release()
        self._refused(error)

    def talked(self, engine: TlsEngine | None, first: bytes) -> None:
        """See Party: hand the socket over."""
        sock, address = self._socket, self._address
        assert sock is not None
        assert address is not None
        if self._timer is not None:
            self._stop_timer()
        self.state = State.OVER
        self._socket = self._step = None
        address.succeeded()
        heard = self._conversation.outcome if self._conversation is not None else None
        self._reached(sock, engine, first, address, heard)

    def _reached(
        self, sock: SocketType, engine: TlsEngine | None, first: bytes, address: ServerAddress, heard: Heard
    ) -> None:
        self._taker.reached(Connected(sock, engine, self._server.name, first, address, heard=heard))

    def _refused(self, error: TurnedAway) -> None:
        self._taker.turned_away(error)

    def _fail_soon(self, code: int | None) -> None:
        self._stop_timer()
        self._timer = self._loop.call_soon(self._failed, os.strerror(code or 0))

    def _failed(self, reason: str, *, blameless: bool = False) -> None:
        """The address could not be used, and where it is `blameless` others may fare better: on with the next."""
        address = self._address
        assert address is not None
        now = self._loop.time()
        self._drop()
        if blameless:
            address.abandoned()
        else:
            address.failed(now)
        self._tried += (address,)
        self._address = None
        if blameless or now >= self._deadline:
            self._give_up(reason, blameless=blameless)
        else:
            self._next(reason, now)

    def _give_up(self, reason: str, *, blameless: bool = False) -> None:
        self.state = State.OVER
        self._taker.not_reached(reason)

    def _drop(self) -> None:
        """Close what the attempt has open."""
        self._stop_timer()
        if self._step is not None:
            self._step.stop()
            self._step = None
        if self._socket is not None:
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
