"""The API's part that changes something, over admin.management.

One change at a time, in a thread: reading and signing take a moment, and the loop has others to answer. What is known
is looked at when a change's turn comes, from control's replica, which has no private keys; those are read from their
files where they are wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from admin.audit import Actor
from admin.export import PARTS, Exported
from admin.known import Known, known_with
from admin.management import DAYS, KEY_TYPE, NOBODY, Management
from admin.problem_details import problem
from admin.refusal import NotFound, Refused, named
from admin.view import View
from certstore.cabinet import CabinetError
from certstore.certified_key import CertifiedKey
from certstore.errors import CertstoreError
from certstore.handover import Situation
from certstore.index import Index
from certstore.issue import Subject
from certstore.names import InvalidName, canonical_name

T = TypeVar("T")

_json = msgspec.json.Encoder()


class New(msgspec.Struct, forbid_unknown_fields=True):
    """A self-signed certificate to be made."""

    names: list[str]  # host names, wildcards, IP addresses
    key_type: str = KEY_TYPE
    days: int = DAYS


class NewRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A request to be made."""

    names: list[str]
    key_type: str = KEY_TYPE
    subject: Subject = NOBODY


class Upload(msgspec.Struct, forbid_unknown_fields=True):
    """A file."""

    content: bytes  # base64
    name: str = "the file"  # for messages


class Import(msgspec.Struct, forbid_unknown_fields=True):
    """Files to be taken in."""

    files: list[Upload]
    passphrase: str | None = None


class RootFiles(msgspec.Struct, forbid_unknown_fields=True):
    """Root certificates to be trusted."""

    files: list[Upload]


class Renewal(msgspec.Struct, forbid_unknown_fields=True):
    """How a certificate is to be made anew."""

    new_key: bool = False
    days: int = DAYS  # of a self-signed one


class Export(msgspec.Struct, forbid_unknown_fields=True):
    """A part that is wanted."""

    part: str
    passphrase: str | None = None


class Default(msgspec.Struct, forbid_unknown_fields=True):
    """The default's host name."""

    host: str


class Changes:
    """The actions for those who ask over HTTP, one at a time."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: Known | None = None
        self._turn = asyncio.Lock()
        self.management = Management(view.config, self._current)

    async def look(self, action: Callable[[Management], T]) -> T:
        """Do what changes nothing, and needs to know of no certificates but roots: it waits for nobody."""
        config, clock = self._view.config, self._view.clock
        empty = Situation(Index(), config.certificates.order, None, None, clock)
        return await asyncio.to_thread(lambda: action(Management(config, lambda: known_with(empty, config))))

    async def do(self, action: Callable[[Management, Sequence[CertifiedKey]], T]) -> T:
        """Do this when it is its turn; it is given the certificates that there are then. Raises CertstoreError."""
        async with self._turn:
            replica = self._view.replica
            default_name, made = replica.default
            held = tuple(replica.index)
            order, clock = self._view.config.certificates.order, self._view.clock

            def work() -> T:
                index = Index()
                for _ in index.apply(held):
                    pass
                self._known = known_with(Situation(index, order, default_name, made, clock), self._view.config)
                return action(self.management, held)

            return await asyncio.to_thread(work)

    def _current(self) -> Known:
        assert self._known is not None
        return self._known


class ChangeEndpoints:
    """The handlers. `actor_of` says who asks."""

    def __init__(self, changes: Changes, actor_of: Callable[[Request], Actor]) -> None:
        self._changes = changes
        self._actor_of = actor_of

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        certificate = "/api/v1/certificates/{fingerprint}"
        return [
            Route("/api/v1/certificates", self._answering(self.new), methods=["POST"]),
            Route("/api/v1/certificates/import", self._answering(self.import_), methods=["POST"]),
            Route(certificate, self._answering(self.delete), methods=["DELETE"]),
            Route(f"{certificate}/renew", self._answering(self.renew), methods=["POST"]),
            Route(f"{certificate}/export", self._answering(self.export), methods=["POST"]),
            Route("/api/v1/requests", self._answering(self.requests), methods=["GET"]),
            Route("/api/v1/requests", self._answering(self.request), methods=["POST"]),
            Route("/api/v1/requests/{id}", self._answering(self.withdraw), methods=["DELETE"]),
            Route("/api/v1/trust", self._answering(self.roots), methods=["GET"]),
            Route("/api/v1/trust", self._answering(self.add_root), methods=["POST"]),
            Route("/api/v1/trust/{fingerprint}", self._answering(self.remove_root), methods=["DELETE"]),
            Route("/api/v1/default", self._answering(self.set_default), methods=["PUT"]),
        ]

    async def new(self, request: Request) -> Response:
        """Make a self-signed certificate."""
        actor, asked = self._actor_of(request), await _body(request, New)
        return _answer(
            await self._changes.do(lambda one, _: one.new(actor, asked.names, asked.key_type, asked.days)), 201
        )

    async def import_(self, request: Request) -> Response:
        """Take in certificates."""
        actor, asked = self._actor_of(request), await _body(request, Import)
        files = _files(asked.files)
        return _answer(await self._changes.do(lambda one, _: one.import_(actor, files, asked.passphrase)), 201)

    async def delete(self, request: Request) -> Response:
        """Move a certificate to the trash; with ?dry_run=true only say what would come of it."""
        actor, which = self._actor_of(request), request.path_params["fingerprint"]
        who = None if _is_dry(request) else actor
        return _answer(await self._changes.do(lambda one, held: one.delete(who, named(held, which))))

    async def renew(self, request: Request) -> Response:
        """Make a certificate anew, or a request for it."""
        actor, which = self._actor_of(request), request.path_params["fingerprint"]
        asked = await _body(request, Renewal)
        return _answer(
            await self._changes.do(
                lambda one, held: one.renew(actor, named(held, which), new_key=asked.new_key, days=asked.days)
            ),
            201,
        )

    async def export(self, request: Request) -> Response:
        """Hand out a part of a certificate."""
        actor, which = self._actor_of(request), request.path_params["fingerprint"]
        asked = await _body(request, Export)
        part = next((one for one in PARTS if one == asked.part), None)
        if part is None:
            raise Refused(f"there is no such part; choose from {', '.join(PARTS)}", "part")
        found = await self._changes.do(lambda one, held: one.export(actor, named(held, which), part, asked.passphrase))
        return file(found)

    async def requests(self, request: Request) -> Response:
        """Those that wait."""
        return _answer(await self._changes.look(lambda one: one.requests()))

    async def request(self, request: Request) -> Response:
        """Make a request."""
        actor, asked = self._actor_of(request), await _body(request, NewRequest)
        return _answer(
            await self._changes.do(lambda one, _: one.request(actor, asked.names, asked.subject, asked.key_type)), 201
        )

    async def withdraw(self, request: Request) -> Response:
        """Move a request to the trash."""
        actor, which = self._actor_of(request), request.path_params["id"]
        return _answer(await self._changes.do(lambda one, _: one.withdraw(actor, one.waiting(which))))

    async def roots(self, request: Request) -> Response:
        """Every trusted root."""
        return _answer(await self._changes.look(lambda one: one.roots.every()))

    async def add_root(self, request: Request) -> Response:
        """Trust roots."""
        actor, asked = self._actor_of(request), await _body(request, RootFiles)
        files = _files(asked.files)
        return _answer(await self._changes.do(lambda one, _: one.roots.add(actor, files)), 201)

    async def remove_root(self, request: Request) -> Response:
        """Trust a root no more."""
        actor, which = self._actor_of(request), request.path_params["fingerprint"]
        return _answer(await self._changes.do(lambda one, _: one.roots.remove(actor, which)))

    async def set_default(self, request: Request) -> Response:
        """Say whose certificate is the default; with ?dry_run=true only say what would come of it."""
        actor, asked = self._actor_of(request), await _body(request, Default)
        who = None if _is_dry(request) else actor
        try:
            host = canonical_name(asked.host)
        except InvalidName as error:
            raise Refused(str(error), "host") from None
        return _answer(await self._changes.do(lambda one, _: one.set_default(who, host)))

    def _answering(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except CertstoreError as error:
                return refusal(error)

        return answer


def refusal(error: CertstoreError) -> Response:
    """The answer to what cannot be done."""
    if isinstance(error, NotFound):
        return problem(404, str(error))
    if isinstance(error, CabinetError):
        return problem(500, str(error))
    return problem(422, str(error), field=error.field if isinstance(error, Refused) else "")


def file(found: Exported) -> Response:
    """An export as a file to be saved."""
    return Response(
        found.data,
        media_type=found.media_type,
        headers={"content-disposition": f'attachment; filename="{found.name}"'},
    )


def _files(uploads: Sequence[Upload]) -> list[tuple[str, bytes]]:
    return [(one.name[:200], one.content) for one in uploads]


def _is_dry(request: Request) -> bool:
    """Whether nothing is to be done. Raises Refused for what might mean that, or be meant so."""
    for name, value in request.query_params.multi_items():
        if name != "dry_run" or value not in ("true", "false"):
            raise Refused('this takes no parameter but "dry_run", which is "true" or "false"', name)
    return request.query_params.get("dry_run") == "true"


async def _body(request: Request, kind: type[T]) -> T:
    """The request's body. Raises Refused."""
    data = await request.body()
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"the body is not as described in /api/v1/openapi.json ({error}); correct it") from None


def _answer(value: Any, status: int = 200) -> Response:
    return Response(_json.encode(value), status, media_type="application/json")
