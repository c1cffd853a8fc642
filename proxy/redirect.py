"""The plain HTTP listener: sends every client on to https, and answers ACME challenges.

One request, one answer, and the connection is closed: whoever is sent on comes back by TLS anyway. A connection is a
task that goes through these steps, each with a deadline that nothing moves:

    introduced   by a trusted proxy alone: its PROXY header    } handshake_timeout, from accept
    asked        the request's head, at most 16 KiB            }
    answered     a redirect, a challenge or a refusal          } ANSWER_TIMEOUT
    closed       what the client still sends is thrown away until it has read the answer, LINGER at most

Challenges come from files (proxy.webroot) or from a backend. To the backend goes a request of our own making, with
nothing of the client's in it but method, path and host, and its answer is relayed as it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from socket import SocketType
from typing import NamedTuple

import h11

from proxy.access_log import AccessLog
from proxy.account import Account
from proxy.acme_backend import AcmeBackend
from proxy.backend import Connected, Endpoint
from proxy.bare_socket import dressed
from proxy.errors import Outcome
from proxy.introduction import complain, local_address
from proxy.leg import reset
from proxy.limits import Limits
from proxy.metrics import ListenerMetrics
from proxy.proxy_header import ProxyHeaderError, ProxyHeaderReader
from proxy.redirect_target import BadRequest, Target, target
from proxy.throttle import Throttle
from proxy.tls_engine import TlsError
from proxy.webroot import challenge

MAX_HEAD = 16 << 10  # bytes
ANSWER_TIMEOUT = 30.0  # seconds from a request to its answer's last byte
LINGER = 2.0  # seconds that a client is listened to after the answer
READ_SIZE = 16 << 10  # bytes

# Outcomes that the client sees as a reset: an orderly end would pass for an answer.
_RESETTING = frozenset(
    {
        Outcome.DRAINED,
        Outcome.REFUSED,
        Outcome.RESET_BY_BACKEND,
        Outcome.TRUNCATED_BY_BACKEND,
        Outcome.BACKEND_PROTOCOL_ERROR,
    }
)
_TEXT = ("content-type", "text/plain; charset=utf-8")
_KEPT = ("GET", "HEAD")  # methods whose redirect may be 301; others must stay what they are (RFC 9110 section 15.4.9)


class Answer(NamedTuple):
    """What a client is told, and how its connection is counted. `reason` is one word for the log."""

    outcome: Outcome
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    reason: str = ""


@dataclass(slots=True)
class RedirectService:
    """What all conversations of one http-redirect listener in one worker share."""

    loop: asyncio.AbstractEventLoop
    name: str
    port: int  # of https
    acme: Path | AcmeBackend | None  # where challenges are answered from
    handshake_timeout: float
    metrics: ListenerMetrics
    access_log: AccessLog | None
    limits: Limits
    ids: Iterator[str]
    complaints: Throttle
    sessions: set[Redirect] = field(default_factory=set)


class Refused(Exception):  # noqa: N818 - not ours to correct
    """The connection ends without an answer."""

    def __init__(self, outcome: Outcome, reason: str = "") -> None:
        super().__init__(outcome.value)
        self.outcome = outcome
        self.reason = reason


class Redirect:
    """One connection. Begins at once; keeps itself alive through the event loop and `service.sessions`."""

    __slots__ = ("_counted_for", "_destination", "_introduction", "_service", "_socket", "_started", "_task", "account")

    def __init__(
        self,
        service: RedirectService,
        sock: SocketType,
        client: Endpoint,
        introduction: ProxyHeaderReader | None = None,
    ) -> None:
        """With `introduction`, a PROXY header comes first, and the client is not counted in the limits yet."""
        self._service = service
        self._socket = dressed(sock)
        self._introduction = introduction
        self._counted_for = client[0] if introduction is None else None
        self._destination: Endpoint | None = None
        self._started = service.loop.time()
        self.account = Account(service.name, client, id=next(service.ids))
        service.sessions.add(self)
        service.metrics.begun()
        self._task = service.loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def account_bytes(self) -> None:
        """Nothing yet: what is sent is so little that it is counted at the end."""

    def cut(self) -> None:
        """End at once: the worker stops."""
        self._task.cancel()

    async def _run(self) -> Outcome:
        try:
            return await self._converse()
        except Refused as refused:
            self.account.reason = refused.reason
            return refused.outcome

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        outcome = Outcome.DRAINED
        try:
            if not task.cancelled():
                outcome = task.result()
        finally:
            if outcome in _RESETTING:
                reset(self._socket)
            else:
                self._socket.close()
            self._over(outcome)

    async def _converse(self) -> Outcome:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            async with asyncio.timeout_at(self._started + self._service.handshake_timeout):
                await self._be_introduced(connection)
                request = await self._be_asked(connection)
        except TimeoutError:
            raise Refused(Outcome.IDLE, "timeout") from None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                outcome = await self._answer(connection, request)
        except TimeoutError:
            raise Refused(Outcome.IDLE, "timeout") from None
        except OSError:
            raise Refused(Outcome.RESET_BY_CLIENT) from None
        await self._linger()
        return outcome

    async def _be_introduced(self, connection: h11.Connection) -> None:
        introduction, service, account = self._introduction, self._service, self.account
        if introduction is None:
            return
        try:
            while (header := introduction.feed(await self._received())) is None:
                pass
        except ProxyHeaderError as error:
            complain(service.complaints, service.loop.time(), account, error)
            service.metrics.failures[error.reason].inc()
            raise Refused(Outcome.HANDSHAKE_FAILED, error.reason) from None
        if header.source is not None:
            account.client, self._destination = header.source, header.destination
        if not service.limits.name(account.client[0]):
            raise Refused(Outcome.REFUSED)
        self._counted_for = account.client[0]
        if introduction.rest:
            connection.receive_data(introduction.rest)

    async def _be_asked(self, connection: h11.Connection) -> h11.Request | Answer:
        """The request's head; an answer at once where it is none."""
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await self._received())
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                return _refusal(431, "head_too_large", f"a request's head has at most {MAX_HEAD} bytes")
            return _refusal(error.error_status_hint, "malformed", "this is no HTTP request that can be answered")
        assert isinstance(event, h11.Request)
        return event

    async def _received(self) -> bytes:
        try:
            data = await self._service.loop.sock_recv(self._socket, READ_SIZE)
        except OSError:
            raise Refused(Outcome.RESET_BY_CLIENT) from None
        if not data:
            raise Refused(Outcome.TRUNCATED_BY_CLIENT)
        return data

    async def _answer(self, connection: h11.Connection, request: h11.Request | Answer) -> Outcome:
        answer = request if isinstance(request, Answer) else await self._decide(request)
        if isinstance(answer, Outcome):
            return answer
        self.account.reason = answer.reason
        without_body = isinstance(request, h11.Request) and request.method == b"HEAD"
        await self._send(_written(connection, answer, without_body=without_body))
        return answer.outcome

    async def _decide(self, request: h11.Request) -> Answer | Outcome:
        """The answer; or the outcome, where a backend has answered."""
        service, method = self._service, request.method.decode("ascii")
        try:
            wanted = target(request.target, [value for name, value in request.headers if name == b"host"])
        except BadRequest as error:
            return _refusal(400, error.reason, str(error))
        token = wanted.challenge if service.acme is not None and method in _KEPT else None
        if token is None:
            return _redirect(wanted, method, service.port)
        if isinstance(service.acme, Path):
            content = challenge(service.acme, token)
            if content is None:
                return Answer(Outcome.SERVED, 404, (_TEXT,), b"There is no such challenge here.\n")
            return Answer(Outcome.SERVED, 200, (("content-type", "application/octet-stream"),), content)
        assert service.acme is not None
        return await self._pass_on(service.acme, f"{method} {wanted.path} HTTP/1.1\r\nHost: {wanted.host}\r\n")

    async def _pass_on(self, acme: AcmeBackend, head: str) -> Answer | Outcome:
        loop, account = self._service.loop, self.account
        account.backend = acme.backend.name
        local = self._destination or local_address(self._socket)
        asking = account.describe_plainly(local)
        began = loop.time()
        try:
            connected = await acme.connect(loop, asking)
        except ConnectionError as error:
            sentence = b"The challenge cannot be had now.\n"
            return Answer(Outcome.BACKEND_UNREACHABLE, 502, (_TEXT,), sentence, str(error))
        account.connect, account.server = loop.time() - began, connected.server
        try:
            with connected.dress() as server:
                await self._ask(connected, server, f"{head}User-Agent: snigate\r\nConnection: close\r\n\r\n".encode())
        except _ClientGone:
            raise Refused(Outcome.RESET_BY_CLIENT) from None
        except TlsError:
            raise Refused(Outcome.BACKEND_PROTOCOL_ERROR) from None
        except OSError:
            raise Refused(Outcome.RESET_BY_BACKEND) from None
        finally:
            connected.release()
        return Outcome.SERVED

    async def _ask(self, connected: Connected, server: socket.socket, request: bytes) -> None:
        """Ask a server, and relay its answer."""
        loop, layer = self._service.loop, connected.layer
        asked = connected.first + bytes(layer.encode(request))
        await loop.sock_sendall(server, asked)
        self.account.to_backend += len(asked)
        while not layer.ended and (data := await loop.sock_recv(server, READ_SIZE)):
            answer = bytes(layer.decode(data))
            while layer.more:
                answer += layer.decode(b"")
            if said := bytes(layer.output()):
                await loop.sock_sendall(server, said)
            if answer:
                await self._send(answer)
        if layer.marks_end and not layer.ended:
            raise Refused(Outcome.TRUNCATED_BY_BACKEND)

    async def _send(self, data: bytes) -> None:
        try:
            await self._service.loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise _ClientGone from error
        self.account.to_client += len(data)

    async def _linger(self) -> None:
        """Close so that the answer arrives: bytes left unread would turn the close into a reset."""
        with contextlib.suppress(OSError, TimeoutError):
            self._socket.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER):
                while await self._service.loop.sock_recv(self._socket, READ_SIZE):
                    pass

    def _over(self, outcome: Outcome) -> None:
        service, account = self._service, self.account
        service.metrics.to_backend.inc(account.to_backend)
        service.metrics.to_client.inc(account.to_client)
        service.sessions.discard(self)
        service.limits.release(self._counted_for)
        service.metrics.over(outcome)
        if service.access_log is not None:
            service.access_log.write(account, outcome, service.loop.time() - self._started)


class _ClientGone(OSError):  # noqa: N818 - a fact, not ours to correct
    """The client takes no more."""


def _redirect(wanted: Target, method: str, port: int) -> Answer:
    location = wanted.location(port)
    return Answer(
        Outcome.REDIRECTED,
        301 if method in _KEPT else 308,
        (("location", location), _TEXT),
        f"This is at {location}\n".encode(),
    )


def _refusal(status: int, reason: str, sentence: str) -> Answer:
    return Answer(Outcome.BAD_REQUEST, status, (_TEXT,), f"{sentence}\n".encode(), reason)


def _written(connection: h11.Connection, answer: Answer, *, without_body: bool) -> bytes:
    headers = [
        *answer.headers,
        ("content-length", str(len(answer.body))),
        ("x-content-type-options", "nosniff"),
        ("connection", "close"),
    ]
    phrase = HTTPStatus(answer.status).phrase.encode()
    head = connection.send(h11.Response(status_code=answer.status, headers=headers, reason=phrase)) or b""
    return head if without_body else head + answer.body
