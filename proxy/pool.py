"""The servers of one backend: each connection goes to one of them, and on to the next where that one fails.

A connection tries each server once at most, and none of its client's bytes before it has reached one.
"""

from __future__ import annotations

from functools import partial
from socket import SocketType

from config.model import BackendConfig
from proxy import backend_header
from proxy.backend import Connected, Dial, Established, MailClient, Taker
from proxy.backend_tls import BackendTls, ServerTls
from proxy.balancer import Balancer
from proxy.dial import Converse, Heard, ServerDial, State
from proxy.metrics import BackendMetrics
from proxy.poller import Loop
from proxy.resolver import Resolver
from proxy.server import Server, ServerAddress
from proxy.starttls.conversation import TurnedAway
from proxy.starttls.opening import Introduction, Plan
from proxy.tls_engine import TlsEngine

IN_PROTOCOL = frozenset({"xclient", "imap-id"})  # client_address that is said inside the mail protocol


class Pool:
    """A backend of servers that are reached by TCP or Unix sockets; see proxy.backend.Backend."""

    def __init__(
        self, config: BackendConfig, connect_timeout: float, tls: BackendTls | None, metrics: BackendMetrics
    ) -> None:
        """`tls`: needed where the configuration's `tls` or `check` asks for it."""
        self.name = config.name
        self.waits_for_handshake = config.client_address != "none"
        self.servers = tuple(
            Server(
                config.name,
                address,
                balance=config.balance,
                tls=tls.towards(address) if tls is not None and config.tls != "off" else None,
                metrics=metrics,
                alone=len(config.servers) == 1,
            )
            for address in config.servers
        )
        self.resolver = Resolver(config.name, self.servers)
        self._balancer = Balancer(config.balance, self.servers)
        self._told = config.client_address
        self.begins_by_starttls = config.tls == "starttls"
        self._connect_timeout = connect_timeout
        self.introduces = config.client_address.startswith("proxy")  # by a PROXY header

    def dial(
        self, loop: Loop, established: Established | None, taker: Taker, mail: MailClient | None = None
    ) -> Dial | None:
        """See Backend.dial."""
        header = backend_header.of_client(self._told, established)
        converse = None if mail is None else self._opening(established, mail)
        return self._begin(loop, header, taker, converse, is_told=self._told != "none")

    def dial_for_itself(self, loop: Loop, taker: Taker) -> Dial | None:
        """The same for a connection of snigate's own, on which nothing has been said."""
        return self._begin(loop, backend_header.of_snigate(self._told), taker, None)

    def tls_towards(self, server: str) -> ServerTls | None:
        """How TLS is spoken with the server of this name."""
        return next(one.tls for one in self.servers if one.name == server)

    def _begin(
        self, loop: Loop, header: bytes, taker: Taker, converse: Converse | None, *, is_told: bool = False
    ) -> Dial | None:
        dial = PoolDial(loop, self._balancer, header, self._connect_timeout, taker, converse, is_told=is_told)
        dial.begin()
        return None if dial.state is State.OVER else dial

    def _opening(self, established: Established | None, mail: MailClient) -> Converse | None:
        """What is to be said to a server before it hears this client; None: nothing."""
        introduction = None
        if self._told in IN_PROTOCOL:
            assert established is not None
            introduction = Introduction(
                established.client,
                established.local,
                established.id,
                established.server_name,
                secured=established.negotiated is not None,
            )
        if introduction is None and not (mail.greeted or self.begins_by_starttls):
            return None
        return partial(mail.protocol.opening, Plan(mail.name, self.begins_by_starttls, introduction, mail.hello))


class PoolDial(ServerDial):
    """A connection to whichever server can be reached."""

    __slots__ = ("_balancer", "_servers_tried")

    def __init__(
        self,
        loop: Loop,
        balancer: Balancer[Server],
        header: bytes,
        connect_timeout: float,
        taker: Taker,
        converse: Converse | None,
        *,
        is_told: bool,
    ) -> None:
        server = balancer.choose(loop.time())
        assert server is not None
        super().__init__(loop, server, server.tls, header, connect_timeout, taker, converse, is_told=is_told)
        self._balancer = balancer
        self._servers_tried: tuple[Server, ...] = ()

    def cancel(self) -> None:
        """See Dial.cancel."""
        if self.state is not State.OVER:
            self._server.abandoned()
        super().cancel()

    def _reached(
        self, sock: SocketType, engine: TlsEngine | None, first: bytes, address: ServerAddress, heard: Heard
    ) -> None:
        server = self._server
        server.reached()
        self._taker.reached(Connected(sock, engine, server.name, first, address, server, heard=heard))

    def _refused(self, error: TurnedAway) -> None:
        self._server.reached()
        self._server.release()
        super()._refused(error)

    def _give_up(self, reason: str, *, blameless: bool = False) -> None:
        """The server has failed, or just for this client: on with the next."""
        now = self._loop.time()
        server = self._server
        if blameless:
            server.abandoned()
        else:
            server.not_reached(reason, now)
        self._servers_tried += (server,)
        following = self._balancer.choose(now, self._servers_tried)
        if following is not None:
            self._server, self._tls = following, following.tls
            self.begin()
            return
        count = len(self._servers_tried)
        which = f"server {server.name}" if count == 1 else f"none of {count} servers, the last {server.name}"
        super()._give_up(f"{which}: {reason}")
