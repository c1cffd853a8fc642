"""The pages of requests that wait for their certificates, and of trusted roots."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from admin.changes import Changes, file
from admin.console.frame import Form, Frame, actor_of, given_in, send_on, status_of, uploads
from admin.console.sessions import Session
from admin.export import Exported
from admin.management import KEY_TYPE
from certstore.errors import CertstoreError
from certstore.issue import Subject


class RequestPages:
    """The handlers."""

    def __init__(self, frame: Frame, changes: Changes) -> None:
        self._frame = frame
        self._changes = changes

    async def requests(self, request: Request, session: Session) -> Response:
        """Those that wait."""
        waiting = await self._changes.do(lambda one, _: one.requests())
        return self._frame.page("requests.html", session, waiting=waiting)

    async def request_form(self, request: Request, session: Session) -> Response:
        """The form for one."""
        return self._frame.page("request.html", session, error=None, given=given_in(None, key_type=KEY_TYPE))

    async def request(self, request: Request, session: Session) -> Response:
        """Make one."""
        actor = actor_of(request)
        async with Form(request, session) as form:
            given = given_in(form, key_type=KEY_TYPE)
            subject = Subject(*(given[field] for field in Subject.__struct_fields__))
            try:
                await self._changes.do(
                    lambda one, _: one.request(actor, given["names"].split(), subject, given["key_type"])
                )
            except CertstoreError as error:
                return self._frame.page("request.html", session, 422, error=error, given=given)
        return send_on("/requests")

    async def download_request(self, request: Request, session: Session) -> Response:
        """One as a file."""
        which = request.path_params["id"]
        async with Form(request, session):
            found = await self._changes.do(lambda one, _: one.waiting(which))
        name = (*found.names.hosts, *found.names.addresses, "request")[0].replace("*", "_").replace(":", "_")
        return file(Exported(f"{name}.csr", found.request, "application/pkcs10"))

    async def withdraw(self, request: Request, session: Session) -> Response:
        """Move one to the trash."""
        actor, which = actor_of(request), request.path_params["id"]
        async with Form(request, session):
            done = await self._changes.do(lambda one, _: one.withdraw(actor, one.waiting(which)))
        session.done = [done]
        return send_on("/requests")

    async def roots(self, request: Request, session: Session) -> Response:
        """Those that are trusted."""
        return await self._roots(session)

    async def _roots(self, session: Session, error: CertstoreError | None = None) -> Response:
        found = await self._changes.do(lambda one, _: one.roots.every())
        return self._frame.page("roots.html", session, status_of(error), roots=found, error=error)

    async def add_root(self, request: Request, session: Session) -> Response:
        """Trust some."""
        actor = actor_of(request)
        async with Form(request, session) as form:
            try:
                files = await uploads(form)
                await self._changes.do(lambda one, _: one.roots.add(actor, files))
            except CertstoreError as error:
                return await self._roots(session, error)
        return send_on("/roots")

    async def remove_root(self, request: Request, session: Session) -> Response:
        """Trust one no more."""
        actor, which = actor_of(request), request.path_params["fingerprint"]
        async with Form(request, session):
            try:
                await self._changes.do(lambda one, _: one.roots.remove(actor, which))
            except CertstoreError as error:
                return await self._roots(session, error)
        return send_on("/roots")
