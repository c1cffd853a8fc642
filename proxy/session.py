"""One client's connection, from accept to its account.

    PREFACE      behind a trusted proxy its PROXY header, with STARTTLS the dialogue before it: see proxy.preface
    PEEKING      the ClientHello is read and understood; nothing has been said on the TLS layer
    HANDSHAKING  the certificate is chosen, and OpenSSL has the bytes; the backend may be dialled meanwhile
    DIALLING     the handshake is done, or is none of ours (passthrough); the backend's connection is not
    RELAYING     two streams, see proxy.relay
    OVER         closed and counted

One deadline covers everything up to the handshake's end, but for a mail dialogue, which has its own before it; no byte
that arrives moves either. What is to be refused is refused while peeking, by the seven bytes of an alert, before
OpenSSL knows of the connection. What is to pass through never meets OpenSSL: the ClientHello goes to the backend as it
came, and so does all that follows.

A handshake goes step by step, each taken together with all other connections that are as far; see proxy.poller. From
one step to the next a session may have come to its end.

Where there is nobody to relay to, a mail client is told so in its protocol's own words. Others are reset.
"""

from __future__ import annotations

import contextlib
from enum import Enum
from socket import MSG_PEEK, SocketType

from OpenSSL import SSL

from certstore.selector import Selection
from proxy.account import Account
from proxy.backend import Connected, Endpoint
from proxy.client_hello import ClientHello, ClientHelloError, ClientHelloReader, read_at_once
from proxy.direct_engine import DirectEngine
from proxy.errors import HANDSHAKE_FAILURES, HandshakeError, Outcome, alert_record
from proxy.introduction import local_address
from proxy.layer import Buffer
from proxy.leg import close_softly, has_ended, reset
from proxy.mail import MailService
from proxy.outlet import Outlet
from proxy.policy import is_of_the_web
from proxy.poller import Poller
from proxy.preface import Preface
from proxy.proxy_header import ProxyHeaderReader
from proxy.relay import Relay
from proxy.routing import Action, Route
from proxy.service import Service
from proxy.starttls.dialogue import Farewell, Turn
from proxy.tls_engine import TlsError
from proxy.upstream import Upstream, UpstreamState

PEEK_SIZE = 16 << 10  # bytes read at once before the handshake is done
_IN_THE_CLEAR = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 55\r\nConnection: close\r\n\r\n"
    b"This port speaks HTTPS. Ask for the https:// address.\r\n"
)


class State(Enum):
    """Where a session is in its life."""

    PREFACE = "preface"
    PEEKING = "peeking"
    HANDSHAKING = "handshaking"
    DIALLING = "dialling"
    RELAYING = "relaying"
    OVER = "over"


class Session(Outlet):
    """One connection. Begins at once; keeps itself alive through the event loop and `service.sessions`.

    It is its client's outlet until there is a relay.
    """

    __slots__ = (
        "_began",
        "_contexts",
        "_counted_for",
        "_destination",
        "_engine",
        "_in_socket",
        "_preface",
        "_reader",
        "_relay",
        "_route",
        "_said",
        "_selection",
        "_service",
        "_started",
        "_upstream",
        "account",
        "state",
    )

    _loop: Poller

    def __init__(
        self,
        service: Service,
        sock: SocketType,
        client: Endpoint,
        introduction: ProxyHeaderReader | None = None,
    ) -> None:
        """With `introduction`, a PROXY header comes first, and the client is not counted in the limits yet."""
        super().__init__(service.loop, sock)
        self._service = service
        self.account = Account(service.name, client, id=next(service.ids))
        self.state = State.PEEKING
        self._counted_for = client[0] if introduction is None else None
        self._destination: Endpoint | None = None
        self._started = self._began = service.loop.time()  # the connection, and its handshake, which STARTTLS begins
        self._reader: ClientHelloReader | None = None  # where the ClientHello comes in pieces
        self._said = b""
        self._in_socket = 0  # of these bytes, so many are still in the socket
        self._contexts: tuple[SSL.Context, SSL.Context] | None = None  # from the choice to the handshake
        self._engine: DirectEngine | None = None
        self._route: Route | None = None
        self._selection: Selection | None = None
        self._upstream = Upstream(service, self.account)
        self._relay: Relay | None = None
        service.sessions.add(self)
        service.metrics.begun()
        service.handshakes.set(self, self._started)
        self._preface: Preface | None = None
        service.loop.add_reader(self.fd, self._look)
        if introduction is not None or service.speaks_first:
            self.state, self._preface = State.PREFACE, Preface(service, self, introduction)
            service.loop.add_reader(self.fd, self._readable)
            self._preface.begin()
            if self.state is not State.OVER:
                self._readable()
        else:
            self._look()  # where connections queue, what they begin with is there already

    def account_bytes(self) -> None:
        """Count what was relayed since the last call; where that is nothing, give back memory."""
        relay, account = self._relay, self.account
        if relay is None:
            return
        to_backend, to_client = relay.bytes_to_backend, relay.bytes_to_client
        if (to_backend, to_client) == (account.to_backend, account.to_client) and not relay.over:
            relay.slim()
            return
        self._service.metrics.to_backend.inc(to_backend - account.to_backend)
        self._service.metrics.to_client.inc(to_client - account.to_client)
        account.to_backend, account.to_client = to_backend, to_client

    def cut(self) -> None:
        """End at once: the worker stops."""
        if self.state is State.RELAYING:
            assert self._relay is not None
            self._relay.cut(Outcome.DRAINED)
        elif self.state is State.DIALLING:
            self._abandon(Outcome.DRAINED, self._farewell(Farewell.SHUTTING_DOWN))
        elif self._preface is not None:
            self._preface.cut()
        elif self.state is not State.OVER:
            self.fail("draining")

    def overdue(self) -> None:
        """The handshake's time is over, or that of what comes before it."""
        if self._preface is not None:
            self._preface.overdue()
        else:
            self.fail("timeout")

    def upstream_settled(self) -> None:
        """See upstream.Owner. It is of use only when the handshake is done."""
        if self.state is not State.DIALLING:
            return
        upstream = self._upstream
        if upstream.connected is not None:
            self._begin_relay(upstream.connected)
        elif upstream.state is UpstreamState.UNREACHABLE:
            self._abandon(Outcome.BACKEND_UNREACHABLE, self._farewell(Farewell.BACKEND_DOWN))
        elif upstream.state is UpstreamState.TURNED_AWAY:
            self._abandon(Outcome.REFUSED_BY_BACKEND, upstream.words)

    def client_has_left(self) -> bool:
        """See upstream.Owner."""
        if self.state is not State.DIALLING or not has_ended(self.socket):
            return False
        self._abandon(Outcome.RESET_BY_CLIENT)
        return True

    def introduced(self, client: Endpoint | None, destination: Endpoint | None) -> bool:
        """See preface.Owner."""
        account = self.account
        if client is not None:
            account.client, self._destination = client, destination
        if not self._service.limits.name(account.client[0]):
            self._abandon(Outcome.REFUSED)
            return False
        self._counted_for = account.client[0]
        return True

    def say(self, words: Buffer) -> None:
        """See preface.Owner. A client that does not listen is not listened to."""
        if words and not self.send(words) and self.blocked:
            self._loop.remove_reader(self.fd)

    def drained(self) -> None:
        """See Outlet."""
        if self.state in (State.PREFACE, State.PEEKING, State.HANDSHAKING):
            self._loop.add_reader(self.fd, self._readable)

    def send_failed(self) -> None:
        """See Outlet."""
        if self.state is State.DIALLING:
            self._abandon(Outcome.RESET_BY_CLIENT)
        elif self._preface is not None:
            self._preface.ended()
        else:
            self.fail("disconnected")

    def begin_hello(self, data: bytes, began: float | None = None) -> None:
        """See preface.Owner."""
        self.state, self._preface = State.PEEKING, None
        if began is not None:
            self._began = began
        if data:
            self._peek(data)
        else:
            self._loop.add_reader(self.fd, self._look)

    def go_on_in_plain_text(self, turn: Turn) -> None:
        """See preface.Owner."""
        if self.state is State.OVER:
            return
        service, account = self._service, self.account
        assert service.mail is not None
        self.state, self._preface = State.DIALLING, None
        self._route = route = service.routes.find(None, ())
        account.route = route.name
        account.established = account.describe_plainly(self._local())
        self._said = turn.rest
        self._upstream.dial(self, service.backends[route.backend], account.established, service.mail.client(turn.hello))
        self._hold_client()

    def leave(self, reason: str = "") -> None:
        """See preface.Owner."""
        if self.state is not State.OVER:
            self.account.reason = reason
            self._close(reset_client=False)
            self._over(Outcome.BEFORE_TLS)

    def _look(self) -> None:
        """Look at what the client begins with. It stays in the socket: OpenSSL reads it there."""
        buffer = self._service.buffer
        try:
            self._in_socket = size = self.socket.recv_into(buffer, PEEK_SIZE, MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if size:
            self._peek(bytes(buffer[:size]))
        else:
            self.fail("disconnected")

    def _take(self) -> None:
        """Take what was looked at off the socket. Who reads next finds out if it has been reset meanwhile."""
        if self._in_socket:
            with contextlib.suppress(OSError):
                self.socket.recv_into(self._service.buffer, self._in_socket)
            self._in_socket = 0
            self._loop.add_reader(self.fd, self._readable)

    def _readable(self) -> None:
        if self._engine is not None and self._engine.direct:
            self._loop.next_step(self._go_on_with_handshake)
            return
        buffer = self._service.buffer
        try:
            size = self.socket.recv_into(buffer, PEEK_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if self._preface is not None:
            if size:
                self._preface.receive(bytes(buffer[:size]))
            else:
                self._preface.ended()
        elif not size:
            self.fail("disconnected")
        elif self.state is State.HANDSHAKING:
            self._handshake(buffer[:size])
        else:
            self._peek(bytes(buffer[:size]))

    def _peek(self, data: bytes) -> None:
        try:
            hello = self._read(data)
        except ClientHelloError as error:
            if error.reason == "plain_http" and self._service.plain_http:
                self.send(_IN_THE_CLEAR)
            self.fail(error.reason, error.alert)
            return
        if hello is None:
            self._take()
            return
        account, service = self.account, self._service
        account.server_name = hello.server_name
        if service.access_log is not None:
            account.ja4 = hello.ja4()
        self._route = route = service.routes.find(hello.server_name, hello.alpn)
        account.route = route.name
        try:
            if route.action is Action.PASSTHROUGH:
                self._pass_through(route)
            else:
                self._terminate(hello, route)
        except HandshakeError as error:
            self.fail(error.reason, HANDSHAKE_FAILURES[error.reason].alert)

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

    def _terminate(self, hello: ClientHello, route: Route) -> None:
        """Choose the certificate, and begin the handshake. Raises HandshakeError for what is to be refused."""
        if route.action is Action.REJECT:
            raise HandshakeError("rejected_protocol" if route.match_alpn else "rejected")
        policy, service = route.policy, self._service
        if policy.refuses_alpn(hello.alpn) or (service.mail is not None and is_of_the_web(hello.alpn)):
            raise HandshakeError("no_application_protocol")
        local = self._local()[0] if hello.server_name is None else None
        self._selection, certificate = service.choose(hello, policy, local)
        self._contexts = service.fronts[policy], certificate
        self.state = State.HANDSHAKING
        self._loop.next_step(self._dial_ahead)

    def _go_on_with_handshake(self) -> None:
        if self.state is State.HANDSHAKING:
            self._handshake(b"")

    def _dial_ahead(self) -> None:
        """Dial while the handshake runs, unless the backend is told of it, or the client has to show who it is."""
        if self.state is not State.HANDSHAKING:
            return
        service, route = self._service, self._route
        assert route is not None
        backend = service.backends[route.backend]
        if not backend.waits_for_handshake and route.policy.client_auth is None and service.mail is None:
            self._upstream.dial(self, backend, None)
        self._loop.next_step(self._begin_handshake)

    def _begin_handshake(self) -> None:
        """Give OpenSSL the ClientHello, or leave it to OpenSSL to read it."""
        if self.state is not State.HANDSHAKING:
            return
        assert self._contexts is not None
        direct, said = self._in_socket > 0, self._said
        self._engine = DirectEngine.serving(*self._contexts, self.fd, direct=direct)
        self._contexts, self._said = None, b""
        if direct:
            self._loop.add_reader(self.fd, self._readable)
        self._handshake(b"" if direct else said)

    def _pass_through(self, route: Route) -> None:
        """Leave TLS to the backend: it is sent what the client has said so far, and then everything else."""
        service, account = self._service, self.account
        self._take()
        service.handshakes.clear(self)
        self.state = State.DIALLING
        account.established = account.describe_plainly(self._local())
        self._upstream.dial(self, service.backends[route.backend], account.established)
        self._hold_client()

    def _local(self) -> Endpoint:
        """What the client connected to: as the PROXY header says, else this end of its own connection."""
        if self._destination is not None:
            return self._destination
        return local_address(self.socket)

    def _handshake(self, data: Buffer) -> None:
        """Go on with the handshake, with what the client has said where that is in the socket no more."""
        engine = self._engine
        assert engine is not None
        try:
            done = engine.handshake(data)
        except HandshakeError as error:
            self.say(engine.output())
            self.fail(error.reason)
            return
        if not engine.direct:
            self.say(engine.output())
        if done:
            self._loop.next_step(self._established)

    def _established(self) -> None:
        """The handshake is done: go on to the backend."""
        if self.state is not State.HANDSHAKING:
            return
        service, account, selection, route = self._service, self.account, self._selection, self._route
        engine = self._engine
        assert engine is not None
        assert selection is not None
        assert route is not None
        service.handshakes.clear(self)
        self.state = State.DIALLING
        account.handshake = service.loop.time() - self._began
        service.metrics.handshake_done(engine.version, engine.resumed, account.handshake, selection.level)
        backend = service.backends[route.backend]
        if backend.waits_for_handshake or service.access_log is not None:
            account.established = account.describe(self._local(), engine, selection, route.policy)
        if self._upstream.state is UpstreamState.IDLE:
            mail = service.mail.client() if service.mail is not None else None
            self._upstream.dial(self, backend, account.established, mail)
        else:
            self.upstream_settled()
        self._hold_client()

    def _hold_client(self) -> None:
        """What the client says has to wait, while there is no backend."""
        if self.state is State.DIALLING:
            self._loop.remove_reader(self.fd)
            if self._service.mail is not None:
                self._upstream.keep_an_eye_on_client()

    def _begin_relay(self, connected: Connected) -> None:
        service = self._service
        self.state = State.RELAYING
        said, unsent = self._said, b""
        self._said = b""
        if self.blocked:
            unsent = self.unsent
            self.drop()
        self._relay = relay = Relay(
            service.loop,
            (self.socket, self._engine),
            (connected.socket, connected.engine),
            service.buffer,
            service.patience,
            self._over,
        )
        if service.mail is not None and self._engine is not None:
            unsent += self._heard(self._engine, service.mail, connected)
        relay.start(connected.first, unsent, said)

    def _heard(self, engine: DirectEngine, mail: MailService, connected: Connected) -> bytes:
        """What of a mail server's own words the client is to hear first, in its TLS."""
        words = mail.heard(connected.heard)
        return bytes(engine.encode(words)) if words else b""

    def fail(self, reason: str, alert: int | None = None) -> None:
        """The handshake is not going to be done: tell the client by `alert`, count it, close."""
        if self.state in (State.RELAYING, State.OVER):
            return
        if self.state is State.PEEKING and alert is not None:
            with contextlib.suppress(OSError):
                self.socket.send(alert_record(alert))
        self.state = State.OVER
        self.account.reason = reason
        self._service.metrics.failures[reason].inc()
        self._close(reset_client=reason == "crowded_out")
        self._over(Outcome.HANDSHAKE_FAILED)

    def _abandon(self, outcome: Outcome, words: bytes = b"") -> None:
        """There is nobody to relay to: say `words`, or reset; an orderly end without any would pass for an answer."""
        if words and not self.blocked:
            engine = self._engine
            with contextlib.suppress(OSError, TlsError):
                self.socket.send(words if engine is None else bytes(engine.encode(words)) + bytes(engine.close()))
        self._close(reset_client=not words)
        self._over(outcome)

    def _farewell(self, why: Farewell) -> bytes:
        """A mail protocol's words for the end, where the client can hear them."""
        mail, route = self._service.mail, self._route
        if mail is None or (route is not None and route.action is Action.PASSTHROUGH):
            return b""
        return mail.farewell(why)

    def _close(self, *, reset_client: bool) -> None:
        """Close both ends of what never became a relay."""
        service = self._service
        service.handshakes.clear(self)
        if self._preface is not None:
            service.prefaces.clear(self)
            self._preface = None
        self._loop.remove_reader(self.fd)
        self.drop()
        self._upstream.close()
        if reset_client:
            reset(self.socket)
        else:
            close_softly(self.socket)

    def _over(self, outcome: Outcome) -> None:
        service = self._service
        self.account_bytes()
        self.state = State.OVER
        self._relay = None
        self._upstream.release()
        service.sessions.discard(self)
        service.limits.release(self._counted_for)
        service.metrics.over(outcome)
        if service.access_log is not None:
            service.access_log.write(self.account, outcome, service.loop.time() - self._started)
