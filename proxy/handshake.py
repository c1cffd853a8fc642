"""One client's TLS handshake, from its first byte of TLS to the stream.

    PEEKING   the ClientHello is read and understood; nothing has been said on the TLS layer
    CHOSEN    its route and its certificate are known; the backend may be dialled
    SHAKING   OpenSSL has the bytes
    OVER      it is done, or the connection passes through, or the session has ended

What is to be refused is refused while peeking, by the seven bytes of an alert, before OpenSSL knows of the connection.
What is to pass through OpenSSL never meets: the ClientHello goes to the backend as it came.

OpenSSL is given what has come, so much at a time, and never the socket: during a handshake it would read on for as long
as somebody sends records that it skips, or a long message a byte a record.

It goes step by step, each taken together with all other connections that are as far; see proxy.poller. From one step to
the next the session may have ended, and then no further one is taken. The handshake reads; all else it leaves to its
session.
"""

from __future__ import annotations

from enum import Enum
from socket import SocketType
from typing import Protocol

from OpenSSL import SSL

from certstore.selector import Selection
from proxy.account import Account
from proxy.backend import Endpoint
from proxy.client_hello import ClientHello, ClientHelloError, ClientHelloReader, read_at_once
from proxy.direct_engine import DirectEngine
from proxy.errors import HANDSHAKE_FAILURES, HandshakeError
from proxy.layer import Buffer
from proxy.policy import is_of_the_web
from proxy.routing import Action, Route
from proxy.service import Service

READ_SIZE = 16 << 10  # bytes read at once
_IN_THE_CLEAR = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 55\r\nConnection: close\r\n\r\n"
    b"This port speaks HTTPS. Ask for the https:// address.\r\n"
)


class Stage(Enum):
    """See above."""

    PEEKING = "peeking"
    CHOSEN = "chosen"
    SHAKING = "shaking"
    OVER = "over"


class Owner(Protocol):
    """What a handshake asks of its session."""

    account: Account
    fd: int
    socket: SocketType

    @property
    def blocked(self) -> bool:
        """Whether the client does not take what it was told before; then it is not listened to."""

    def local(self) -> Endpoint:
        """What the client connected to."""

    def say(self, words: Buffer) -> None:
        """Send. Where that fails the session is over."""

    def fail(self, reason: str, alert: int | None = None) -> None:
        """It comes to nothing, for this key of HANDSHAKE_FAILURES; `alert` is for the client."""

    def pass_through(self, route: Route, said: bytes) -> None:
        """TLS is the backend's; this is what the client has said."""

    def dial_ahead(self, route: Route) -> None:
        """The backend may be dialled."""

    def established(self, route: Route, engine: DirectEngine, selection: Selection) -> None:
        """It is done."""


class Handshake:
    """One session's handshake."""

    __slots__ = (
        "_began",
        "_contexts",
        "_engine",
        "_owner",
        "_reader",
        "_route",
        "_said",
        "_selection",
        "_service",
        "stage",
    )

    def __init__(self, service: Service, owner: Owner, began: float) -> None:
        """`began`: in the loop's time. Its deadline is the session's to set and to clear."""
        self._service = service
        self._owner = owner
        self._began = began
        self._reader: ClientHelloReader | None = None  # where the ClientHello comes in pieces
        self._said = b""
        self._route: Route | None = None
        self._selection: Selection | None = None
        self._contexts: tuple[SSL.Context, SSL.Context] | None = None  # while CHOSEN: of the policy and the certificate
        self._engine: DirectEngine | None = None
        self.stage = Stage.PEEKING

    def begin(self, data: bytes = b"") -> None:
        """Begin, with what the client has said already."""
        if not self._owner.blocked:
            self.listen()
        if data:
            self._peek(data)
        else:
            self._readable()  # where connections queue, what they begin with is there already

    def listen(self) -> None:
        """Read, after it was stopped."""
        self._service.loop.add_reader(self._owner.fd, self._readable)

    def close(self) -> None:
        """Take no further step."""
        self.stage = Stage.OVER

    def _readable(self) -> None:
        buffer = self._service.buffer
        try:
            size = self._owner.socket.recv_into(buffer, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if not size:
            self._owner.fail("disconnected")
        elif self.stage is Stage.SHAKING:
            self._said = bytes(buffer[:size])
            self._service.loop.next_step(self._go_on)
        else:
            self._peek(bytes(buffer[:size]))

    def _peek(self, data: bytes) -> None:
        owner, service = self._owner, self._service
        try:
            hello = self._read(data)
        except ClientHelloError as error:
            if error.reason == "plain_http" and service.plain_http:
                owner.say(_IN_THE_CLEAR)
            owner.fail(error.reason, error.alert)
            return
        if hello is None:
            return
        account = owner.account
        account.server_name = hello.server_name
        if service.access_log is not None:
            account.ja4 = hello.ja4()
        self._route = route = service.routes.find(hello.server_name, hello.alpn)
        account.route = route.name
        if route.action is Action.PASSTHROUGH:
            self.close()
            owner.pass_through(route, self._said)
            return
        try:
            self._choose(hello, route)
        except HandshakeError as error:
            owner.fail(error.reason, HANDSHAKE_FAILURES[error.reason].alert)

    def _read(self, data: bytes) -> ClientHello | None:
        """The ClientHello once it is complete; all that the client has said is then in `_said`.

        Raises ClientHelloError.
        """
        reader = self._reader
        if reader is None:
            self._said = data
            hello = read_at_once(data)
            if hello is not None:
                return hello
            self._reader = reader = ClientHelloReader()
        hello = reader.feed(data)
        if hello is not None:
            self._said, self._reader = reader.received, None
        return hello

    def _choose(self, hello: ClientHello, route: Route) -> None:
        """Choose the certificate. Raises HandshakeError for what is to be refused."""
        if route.action is Action.REJECT:
            raise HandshakeError("rejected_protocol" if route.match_alpn else "rejected")
        policy, service = route.policy, self._service
        if policy.refuses_alpn(hello.alpn) or (service.mail is not None and is_of_the_web(hello.alpn)):
            raise HandshakeError("no_application_protocol")
        local = self._owner.local()[0] if hello.server_name is None else None
        self._selection, certificate = service.choose(hello, policy, local)
        self._contexts = service.fronts[policy], certificate
        self.stage = Stage.CHOSEN
        service.loop.next_step(self._dial_ahead)

    def _dial_ahead(self) -> None:
        """Let the backend be dialled, unless it is told of the handshake, or the client has to show who it is."""
        if self.stage is Stage.OVER:
            return
        service, route = self._service, self._route
        assert route is not None
        waits = service.backends[route.backend].waits_for_handshake
        if not waits and route.policy.client_auth is None and service.mail is None:
            self._owner.dial_ahead(route)
        service.loop.next_step(self._start)

    def _start(self) -> None:
        """Give OpenSSL the ClientHello."""
        if self.stage is Stage.OVER:
            return
        assert self._contexts is not None
        self.stage = Stage.SHAKING
        self._engine = DirectEngine.serving(*self._contexts, self._owner.fd)
        self._contexts = None
        self._go_on()

    def _go_on(self) -> None:
        """Give OpenSSL what the client has said since."""
        if self.stage is not Stage.SHAKING:
            return
        engine, owner = self._engine, self._owner
        assert engine is not None
        said, self._said = self._said, b""
        try:
            done = engine.handshake(said)
        except HandshakeError as error:
            owner.say(engine.output())
            owner.fail(error.reason)
            return
        owner.say(engine.output())
        if done:
            self._service.loop.next_step(self._finish)

    def _finish(self) -> None:
        if self.stage is Stage.OVER:
            return
        self.stage = Stage.OVER
        service, engine, selection, route = self._service, self._engine, self._selection, self._route
        assert engine is not None
        assert selection is not None
        assert route is not None
        self._owner.account.handshake = taken = service.loop.time() - self._began
        service.metrics.handshake_done(engine.version, engine.resumed, taken, selection.level)
        self._owner.established(route, engine, selection)
