"""The pages of requests that wait for their certificates, and of trusted roots."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from admin import answers
from admin.changes import Changes, file
from admin.console.frame import Form, Frame, actor_of, given_in, send_on, status_of, uploads
from admin.console.sessions import Session
from admin.export import Exported
from admin.management import KEY_TYPE
from admin.refusal import NotFound
from certstore.errors import CertstoreError
from certstore.issue import Subject


class RequestPages:
    """The handlers."""

    def __init__(self, frame: Frame, changes: Changes) -> None:
        self._frame = frame
        self._changes = changes

    async def requests(self, request: Request, session: Session) -> Response:
        """Those that wait."""
        waiting = await self._changes.look(lambda one: one.requests())
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
                made = await self._changes.do(
                    lambda one, _: one.request(actor, given["names"].split(), subject, given["key_type"])
                )
            except CertstoreError as error:
                return self._frame.page("request.html", session, 422, error=error, given=given)
        session.done = [news_of(made)]
        return send_on("/requests")

    async def download_request(self, request: Request, session: Session) -> Response:
        """One as a file."""
        which = request.path_params["id"]
        async with Form(request, session):
            found = await self._changes.look(lambda one: one.waiting(which))
        name = (*found.names.hosts, *found.names.addresses, "request")[0].replace("*", "_").replace(":", "_")
        return file(Exported(f"{name}.csr", found.request, "application/pkcs10"))

    async def withdraw_form(self, request: Request, session: Session) -> Response:
        """What withdrawing one means."""
        which = request.path_params["id"]
        found = await self._changes.look(lambda one: one.waiting(which))
        name = (*found.names.hosts, *found.names.addresses)[0]
        return self._frame.confirm(
            session,
            question=f"Withdraw the request for {name}?",
            sentence="Its private key is moved to the trash with it: without it, what the CA sends back is of no use.",
            action=f"/requests/{found.id}/withdraw",
            button="Withdraw",
            back="/requests",
            is_danger=True,
        )

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
        found = await self._changes.look(lambda one: one.roots.every())
        return self._frame.page("roots.html", session, status_of(error), roots=found, error=error)

    async def add_root(self, request: Request, session: Session) -> Response:
        """Trust some."""
        actor = actor_of(request)
        async with Form(request, session) as form:
            try:
                files = await uploads(form)
                added = await self._changes.do(lambda one, _: one.roots.add(actor, files))
            except CertstoreError as error:
                return await self._roots(session, error)
        session.done = [_root_news("trust-add", one) for one in added]
        return send_on("/roots")

    async def remove_form(self, request: Request, session: Session) -> Response:
        """What removing one means."""
        which = request.path_params["fingerprint"]
        every = await self._changes.look(lambda one: one.roots.every())
        found = next((one for one in every if one.added and one.fingerprint == which), None)
        if found is None:
            raise NotFound("no root with this fingerprint was added here")
        return self._frame.confirm(
            session,
            question=f"Trust {found.subject} no more?",
            sentence="Certificates whose chains lead to it alone are served on a lower level then.",
            action=f"/roots/{found.fingerprint}/remove",
            button="Remove",
            back="/roots",
            is_danger=True,
        )

    async def remove_root(self, request: Request, session: Session) -> Response:
        """Trust one no more."""
        actor, which = actor_of(request), request.path_params["fingerprint"]
        async with Form(request, session):
            try:
                removed = await self._changes.do(lambda one, _: one.roots.remove(actor, which))
            except CertstoreError as error:
                return await self._roots(session, error)
        session.done = [_root_news("trust-remove", removed)]
        return send_on("/roots")


def news_of(made: answers.Request) -> answers.Done:
    """What is shown once a request was made."""
    return answers.Done(
        "request", None, (made.path,), (), (f"it is for {', '.join((*made.names, *made.addresses)[:4])}",)
    )


def _root_news(action: str, root: answers.Root) -> answers.Done:
    return answers.Done(action, root.fingerprint, (), (), (root.subject,))
