"""One client's connection, from accept to its account.

    PREFACE      behind a trusted proxy its PROXY header, with STARTTLS the dialogue before it: see proxy.preface
    PEEKING      the ClientHello is read and understood; nothing has been said on the TLS layer
    HANDSHAKING  OpenSSL has the bytes; the backend may be dialled meanwhile
    DIALLING     the handshake is done, or is none of ours (passthrough); the backend's connection is not
    RELAYING     two streams, see proxy.relay
    OVER         closed and counted

One deadline covers everything up to the handshake's end, but for a mail dialogue, which has its own before it; no byte
that arrives moves either. What is to be refused is
refused while peeking, by the seven bytes of an alert, before OpenSSL knows of the connection. What is to pass through
never meets OpenSSL: the ClientHello goes to the backend as it came, and so does all that follows.

Where there is nobody to relay to, a mail client is told so in its protocol's own words. Others are reset.
"""

from __future__ import annotations

import contextlib
import socket
from enum import Enum

from certstore.selector import Selection
from proxy.account import Account
from proxy.backend import Backend, Connected, Dial, Endpoint, Established, MailClient
from proxy.client_hello import ClientHello, ClientHelloError, ClientHelloReader, read_at_once
from proxy.errors import HANDSHAKE_FAILURES, HandshakeError, Outcome, alert_record
from proxy.introduction import local_address
from proxy.layer import Buffer
from proxy.leg import close_softly, reset
from proxy.policy import Policy
from proxy.preface import Preface
from proxy.proxy_header import ProxyHeaderReader
from proxy.relay import Relay
from proxy.routing import Action, Route
from proxy.service import Service
from proxy.starttls.conversation import TurnedAway
from proxy.starttls.dialogue import Farewell, Turn
from proxy.starttls.opening import Opened
from proxy.tls_engine import TlsEngine, TlsError

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


class Session:
    """One connection. Begins at once; keeps itself alive through the event loop and `service.sessions`."""

    __slots__ = (
        "_began",
        "_connected",
        "_counted_for",
        "_destination",
        "_dial",
        "_dialled",
        "_engine",
        "_preface",
        "_reader",
        "_relay",
        "_route",
        "_said",
        "_selection",
        "_service",
        "_socket",
        "_started",
        "_unsent",
        "account",
        "state",
    )

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        client: Endpoint,
        introduction: ProxyHeaderReader | None = None,
    ) -> None:
        """With `introduction`, a PROXY header comes first, and the client is not counted in the limits yet."""
        self._service = service
        self._socket = sock
        self.account = Account(service.name, client, id=next(service.ids))
        self.state = State.PEEKING
        self._counted_for = client[0] if introduction is None else None
        self._destination: Endpoint | None = None
        self._started = self._began = service.loop.time()
        self._reader: ClientHelloReader | None = None  # where the ClientHello comes in pieces
        self._said = b""
        self._engine: TlsEngine | None = None
        self._route: Route | None = None
        self._selection: Selection | None = None
        self._dial: Dial | None = None
        self._dialled = 0.0
        self._connected: Connected | None = None
        self._relay: Relay | None = None
        self._unsent = b""
        service.sessions.add(self)
        service.metrics.begun()
        service.handshakes.set(self, self._started)
        service.loop.add_reader(sock.fileno(), self._readable)
        self._preface: Preface | None = None
        if introduction is not None or service.speaks_first:
            self.state, self._preface = State.PREFACE, Preface(service, self, introduction)
            self._preface.begin()
        if self.state is not State.OVER:
            self._readable()  # where connections queue, what they begin with is there already

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

    def reached(self, connected: Connected) -> None:
        """A backend was reached, which is of use only when the handshake is done."""
        service, account = self._service, self.account
        self._dial, self._connected = None, connected
        account.server = connected.server
        account.connect = service.loop.time() - self._dialled
        service.backend_metrics[account.backend].connected(account.connect)
        if self.state is State.DIALLING:
            self._begin_relay(connected)

    def not_reached(self, reason: str) -> None:
        """No server of the backend could be reached; that waits until the handshake is done."""
        self._dial, self.account.reason = None, reason
        if self.state is State.DIALLING:
            self._abandon(Outcome.BACKEND_UNREACHABLE, self._farewell(Farewell.BACKEND_DOWN))

    def turned_away(self, error: TurnedAway) -> None:
        """See Taker."""
        self._dial, self.account.reason = None, str(error)
        self._abandon(Outcome.REFUSED_BY_BACKEND, error.words)

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

    def say(self, words: bytes) -> None:
        """See preface.Owner."""
        self._send(words)

    def begin_hello(self, data: bytes, began: float | None = None) -> None:
        """See preface.Owner."""
        self.state, self._preface = State.PEEKING, None
        if began is not None:
            self._began = began
        if data:
            self._peek(data)

    def go_on_in_plain_text(self, turn: Turn) -> None:
        """See preface.Owner."""
        if self.state is State.OVER:
            return
        service, account = self._service, self.account
        assert service.mail is not None
        self.state, self._preface = State.DIALLING, None
        self._route = route = service.routes.find(None, ())
        account.route = route.name
        account.established = self._describe_plainly()
        self._said = turn.rest
        self._begin_dial(service.backends[route.backend], account.established, service.mail.client(turn.hello))
        self._hold_client()

    def leave(self) -> None:
        """See preface.Owner."""
        if self.state is not State.OVER:
            self._close(reset_client=False)
            self._over(Outcome.BEFORE_TLS)

    def _readable(self) -> None:
        buffer = self._service.buffer
        try:
            size = self._socket.recv_into(buffer, PEEK_SIZE)
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
                self._send(_IN_THE_CLEAR)
            self.fail(error.reason, error.alert)
            return
        if hello is None:
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
        policy = route.policy
        if policy.refuses_alpn(hello.alpn):
            raise HandshakeError("no_application_protocol")
        service = self._service
        local = self._local()[0] if hello.server_name is None else None
        self._selection, certificate = service.choose(hello, policy, local)
        self._engine = TlsEngine.accepting(service.fronts[policy], certificate)
        self.state = State.HANDSHAKING
        said, self._said = self._said, b""
        backend = service.backends[route.backend]
        if not backend.waits_for_handshake and policy.client_auth is None and service.mail is None:
            self._begin_dial(backend, None)
        self._handshake(said)

    def _pass_through(self, route: Route) -> None:
        """Leave TLS to the backend: it is sent what the client has said so far, and then everything else."""
        service, account = self._service, self.account
        service.handshakes.clear(self)
        self.state = State.DIALLING
        account.established = self._describe_plainly()
        self._begin_dial(service.backends[route.backend], account.established)
        self._hold_client()

    def _local(self) -> Endpoint:
        """What the client connected to: as the PROXY header says, else this end of its own connection."""
        if self._destination is not None:
            return self._destination
        return local_address(self._socket)

    def _handshake(self, data: Buffer) -> None:
        """Go on with the handshake, with what the client has said."""
        engine = self._engine
        assert engine is not None
        try:
            done = engine.handshake(data)
        except HandshakeError as error:
            self._send(engine.output())
            self.fail(error.reason)
            return
        self._send(engine.output())
        if done and self.state is State.HANDSHAKING:
            self._established(engine)

    def _established(self, engine: TlsEngine) -> None:
        service, account, selection, route = self._service, self.account, self._selection, self._route
        assert selection is not None
        assert route is not None
        service.handshakes.clear(self)
        self.state = State.DIALLING
        account.handshake = service.loop.time() - self._began
        service.metrics.handshake_done(engine.version, engine.resumed, account.handshake, selection.level)
        backend = service.backends[route.backend]
        if backend.waits_for_handshake or service.access_log is not None:
            account.established = self._describe(engine, selection, route.policy)
        if self._connected is not None:
            self._begin_relay(self._connected)
        elif account.reason:
            self._abandon(Outcome.BACKEND_UNREACHABLE)
        else:
            if self._dial is None:
                mail = service.mail.client() if service.mail is not None else None
                self._begin_dial(backend, account.established, mail)
            self._hold_client()

    def _begin_dial(self, backend: Backend, established: Established | None, mail: MailClient | None = None) -> None:
        service = self._service
        self.account.backend = backend.name
        self._dialled = service.loop.time()
        self._dial = backend.dial(service.loop, established, self, mail)

    def _hold_client(self) -> None:
        """What the client says has to wait, while there is no backend."""
        if self.state is State.DIALLING:
            self._service.loop.remove_reader(self._socket.fileno())

    def _describe_plainly(self) -> Established:
        """What there is to say where no TLS ends here."""
        account = self.account
        return Established(account.client, self._local(), self._service.name, account.server_name, id=account.id)

    def _describe(self, engine: TlsEngine, selection: Selection, policy: Policy) -> Established:
        return Established(
            client=self.account.client,
            local=self._local(),
            listener=self._service.name,
            server_name=self.account.server_name,
            negotiated=engine.negotiated(),
            fingerprint=selection.certificate.fingerprint,
            matched=selection.matched,
            level=selection.level,
            leaf=selection.certificate.leaf,
            id=self.account.id,
            client_name=engine.peer_name() if policy.client_auth is not None else None,
        )

    def _begin_relay(self, connected: Connected) -> None:
        service = self._service
        self.state = State.RELAYING
        self._stop_sending()
        self._relay = relay = Relay(
            service.loop,
            (self._socket, self._engine),
            (connected.socket, connected.engine),
            service.buffer,
            service.patience,
            self._over,
        )
        first, said, unsent = connected.first, self._said, self._unsent
        self._said = self._unsent = b""
        if said and connected.engine is not None:
            said = bytes(connected.engine.encode(said))
        relay.start(first + said, unsent + self._heard(connected))

    def _heard(self, connected: Connected) -> bytes:
        """What of a mail server's own words the client is to hear first, in its TLS."""
        engine, heard, mail = self._engine, connected.heard, self._service.mail
        if engine is None or mail is None or not isinstance(heard, Opened):
            return b""
        words = heard.after_starttls if mail.starttls else heard.greeting
        return bytes(engine.encode(words)) if words else b""

    def _send(self, data: Buffer) -> None:
        """Send handshake bytes; a socket that does not take a whole flight is rare, and its rest is kept."""
        if not data:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            taken = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError:
            if self.state is State.DIALLING:
                self._abandon(Outcome.RESET_BY_CLIENT)
            elif self._preface is not None:
                self._preface.ended()
            else:
                self.fail("disconnected")
            return
        if taken < len(data):
            self._unsent = bytes(data[taken:])
            self._service.loop.add_writer(self._socket.fileno(), self._send_rest)

    def _send_rest(self) -> None:
        self._stop_sending()
        data, self._unsent = self._unsent, b""
        self._send(data)

    def _stop_sending(self) -> None:
        if self._unsent:
            self._service.loop.remove_writer(self._socket.fileno())

    def fail(self, reason: str, alert: int | None = None) -> None:
        """The handshake is not going to be done: tell the client by `alert`, count it, close."""
        if self.state in (State.RELAYING, State.OVER):
            return
        if self.state is State.PEEKING and alert is not None:
            with contextlib.suppress(OSError):
                self._socket.send(alert_record(alert))
        self.state = State.OVER
        self.account.reason = reason
        self._service.metrics.failures[reason].inc()
        self._close(reset_client=False)
        self._over(Outcome.HANDSHAKE_FAILED)

    def _abandon(self, outcome: Outcome, words: bytes = b"") -> None:
        """There is nobody to relay to: say `words`, or reset; an orderly end without any would pass for an answer."""
        if words and not self._unsent:
            engine = self._engine
            with contextlib.suppress(OSError, TlsError):
                self._socket.send(words if engine is None else bytes(engine.encode(words)) + bytes(engine.close()))
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
        service.loop.remove_reader(self._socket.fileno())
        self._stop_sending()
        if self._dial is not None:
            self._dial.cancel()
        if self._connected is not None:
            self._connected.socket.close()
        if reset_client:
            reset(self._socket)
        else:
            close_softly(self._socket)

    def _over(self, outcome: Outcome) -> None:
        service = self._service
        self.account_bytes()
        self.state = State.OVER
        self._relay = None
        if self._connected is not None:
            self._connected.release()
        service.sessions.discard(self)
        service.limits.release(self._counted_for)
        service.metrics.over(outcome)
        if service.access_log is not None:
            service.access_log.write(self.account, outcome, service.loop.time() - self._started)
