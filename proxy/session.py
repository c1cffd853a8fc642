"""One client's connection, from accept to its account.

    PREFACE      behind a trusted proxy its PROXY header, with STARTTLS the dialogue before it: see proxy.preface
    HANDSHAKING  the ClientHello is read, and TLS begun where it is not the backend's: see proxy.handshake
    DIALLING     the handshake is done, or is none of ours (passthrough); the backend's connection is not
    RELAYING     two streams, see proxy.relay
    OVER         closed and counted

One deadline covers everything up to the handshake's end, but for a mail dialogue, which has its own before it; no byte
that arrives moves either.

Where there is nobody to relay to, a mail client is told so in its protocol's own words. Others are reset.
"""

from __future__ import annotations

import contextlib
from enum import Enum
from socket import SocketType

from certstore.selector import Selection
from proxy.account import Account
from proxy.backend import Connected, Endpoint, MailClient
from proxy.direct_engine import DirectEngine
from proxy.errors import Outcome, alert_record
from proxy.handshake import READ_SIZE, Handshake
from proxy.introduction import local_address
from proxy.layer import Buffer
from proxy.leg import close_softly, has_ended, reset
from proxy.mail import MailService
from proxy.outlet import Outlet
from proxy.poller import Poller
from proxy.preface import Preface
from proxy.proxy_header import ProxyHeaderReader
from proxy.relay import Relay
from proxy.routing import Action, Route
from proxy.service import Service
from proxy.starttls.dialogue import Farewell, Turn
from proxy.tls_engine import TlsError
from proxy.upstream import Upstream, UpstreamState


class State(Enum):
    """Where a session is in its life."""

    PREFACE = "preface"
    HANDSHAKING = "handshaking"
    DIALLING = "dialling"
    RELAYING = "relaying"
    OVER = "over"


class Session(Outlet):
    """One connection. Begins at once; keeps itself alive through the event loop and `service.sessions`.

    It is its client's outlet until there is a relay.
    """

    __slots__ = (
        "_counted_for",
        "_destination",
        "_engine",
        "_handshake",
        "_preface",
        "_relay",
        "_route",
        "_said",
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
        self.state = State.HANDSHAKING
        self._counted_for = client[0] if introduction is None else None
        self._destination: Endpoint | None = None
        self._started = service.loop.time()
        self._said = b""  # of the stream, before there is a relay
        self._preface: Preface | None = None
        self._handshake: Handshake | None = None
        self._engine: DirectEngine | None = None
        self._route: Route | None = None
        self._upstream = Upstream(service, self.account)
        self._relay: Relay | None = None
        service.sessions.add(self)
        service.metrics.begun()
        service.handshakes.set(self, self._started)
        if introduction is None and not service.speaks_first:
            self.begin_hello(b"", self._started)
            return
        self.state, self._preface = State.PREFACE, Preface(service, self, introduction)
        service.loop.add_reader(self.fd, self._readable)
        self._preface.begin()
        if self.state is State.PREFACE:
            self._readable()

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
        if self._handshake is not None:
            self._handshake.listen()
        elif self.state is State.PREFACE:
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
        self.state, self._preface = State.HANDSHAKING, None
        self._handshake = handshake = Handshake(self._service, self, self._started if began is None else began)
        handshake.begin(data)

    def local(self) -> Endpoint:
        """What the client connected to: as the PROXY header says, else this end of its own connection."""
        if self._destination is not None:
            return self._destination
        return local_address(self.socket)

    def dial_ahead(self, route: Route) -> None:
        """See handshake.Owner."""
        self._upstream.dial(self, self._service.backends[route.backend], None)

    def pass_through(self, route: Route, said: bytes) -> None:
        """See handshake.Owner. The backend is sent this, and then everything else."""
        self._said = said
        self._dial_plainly(route)

    def established(self, route: Route, engine: DirectEngine, selection: Selection) -> None:
        """See handshake.Owner."""
        service, account = self._service, self.account
        service.handshakes.clear(self)
        self.state, self._handshake = State.DIALLING, None
        self._engine, self._route = engine, route
        backend = service.backends[route.backend]
        if backend.waits_for_handshake or service.access_log is not None:
            account.established = account.describe(self.local(), engine, selection, route.policy)
        if self._upstream.state is UpstreamState.IDLE:
            mail = service.mail.client() if service.mail is not None else None
            self._upstream.dial(self, backend, account.established, mail)
        else:
            self.upstream_settled()
        self._hold_client()

    def go_on_in_plain_text(self, turn: Turn) -> None:
        """See preface.Owner."""
        if self.state is State.OVER:
            return
        service = self._service
        assert service.mail is not None
        self._preface = None
        route = service.routes.find(None, ())
        self.account.route = route.name
        self._said = turn.rest
        self._dial_plainly(route, service.mail.client(turn.hello))

    def _dial_plainly(self, route: Route, mail: MailClient | None = None) -> None:
        """No TLS ends here: dial the backend."""
        service, account = self._service, self.account
        service.handshakes.clear(self)
        self.state, self._handshake, self._route = State.DIALLING, None, route
        account.established = account.describe_plainly(self.local())
        self._upstream.dial(self, service.backends[route.backend], account.established, mail)
        self._hold_client()

    def leave(self, reason: str = "") -> None:
        """See preface.Owner."""
        if self.state is not State.OVER:
            self.account.reason = reason
            self._close(reset_client=False)
            self._over(Outcome.BEFORE_TLS)

    def _readable(self) -> None:
        preface, buffer = self._preface, self._service.buffer
        assert preface is not None
        try:
            size = self.socket.recv_into(buffer, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if size:
            preface.receive(bytes(buffer[:size]))
        else:
            preface.ended()

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
        if alert is not None:
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
        if self._handshake is not None:
            self._handshake.close()
            self._handshake = None
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
