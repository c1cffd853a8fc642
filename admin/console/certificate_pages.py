"""The pages of certificates: all of them, one of them, and each thing that can be done with them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from admin import answers
from admin.changes import Changes, file
from admin.console.frame import Form, Frame, actor_of, given_in, number_of, send_on, status_of, text_of, uploads
from admin.console.request_pages import news_of
from admin.console.sessions import Session
from admin.console.timeline import timeline
from admin.export import PARTS
from admin.management import DAYS, KEY_TYPE
from admin.refusal import Refused, named
from admin.view import View
from certstore.errors import CertstoreError
from certstore.names import InvalidName, canonical_name

PER_PAGE = 100
SORTS = {
    "expiry": lambda one: (one.days_left, one.fingerprint),
    "name": lambda one: ((*one.names, *one.addresses, "~")[0].removeprefix("*."), one.fingerprint),
    "standing": lambda one: (one.standing, one.days_left),
}


class CertificatePages:
    """The handlers."""

    def __init__(self, frame: Frame, view: View, changes: Changes) -> None:
        self._frame = frame
        self._view = view
        self._changes = changes

    async def certificates(self, request: Request, session: Session) -> Response:
        """All of them, filtered and sorted, and when they expire."""
        found = await self._view.certificates()
        wanted, sort = request.query_params.get("q", "").strip().lower(), request.query_params.get("sort", "expiry")
        rows = [one for one in found.certificates if not wanted or _matches(one, wanted)]
        rows.sort(key=SORTS.get(sort, SORTS["expiry"]))
        pages = max(1, -(-len(rows) // PER_PAGE))
        page = min(max(1, number_of(request.query_params.get("page"), 1)), pages)
        return self._frame.page(
            "certificates.html",
            session,
            rows=rows[(page - 1) * PER_PAGE : page * PER_PAGE],
            count=len(rows),
            page=page,
            pages=pages,
            q=wanted,
            sort=sort,
            picture=timeline(found.certificates),
            problems=found.problems,
            waiting=found.waiting,
            default=found.default,
        )

    async def certificate(self, request: Request, session: Session) -> Response:
        """One of them, and what can be done with it."""
        return self._certificate(request, session)

    def _certificate(self, request: Request, session: Session, error: CertstoreError | None = None) -> Response:
        one = self._view.certificate(request.path_params["fingerprint"])
        hosts = [name for name in one.names if not name.startswith("*")]
        return self._frame.page(
            "certificate.html", session, status_of(error), one=one, hosts=hosts, error=error, parts=PARTS, days=DAYS
        )

    async def new(self, request: Request, session: Session) -> Response:
        """The form for a self-signed certificate."""
        return self._frame.page(
            "new.html", session, error=None, given=given_in(None, key_type=KEY_TYPE, days=str(DAYS))
        )

    async def make(self, request: Request, session: Session) -> Response:
        """Make one."""
        actor = actor_of(request)
        async with Form(request, session) as form:
            given = given_in(form, key_type=KEY_TYPE, days=str(DAYS))
            try:
                days = number_of(given["days"], 0)
                done = await self._changes.do(
                    lambda one, _: one.new(actor, given["names"].split(), given["key_type"], days)
                )
            except CertstoreError as error:
                return self._frame.page("new.html", session, 422, error=error, given=given)
        return await self._frame.done(session, [done])

    async def import_form(self, request: Request, session: Session) -> Response:
        """The form for files."""
        return self._frame.page("import.html", session, error=None)

    async def import_(self, request: Request, session: Session) -> Response:
        """Take them in."""
        actor = actor_of(request)
        async with Form(request, session) as form:
            try:
                files, passphrase = await uploads(form), text_of(form, "passphrase") or None
                done = await self._changes.do(lambda one, _: one.import_(actor, files, passphrase))
            except CertstoreError as error:
                return self._frame.page("import.html", session, 422, error=error)
        return await self._frame.done(session, done)

    async def renew(self, request: Request, session: Session) -> Response:
        """Make one anew, or a request for it."""
        actor, which = actor_of(request), request.path_params["fingerprint"]
        async with Form(request, session) as form:
            new_key = text_of(form, "new_key") == "yes"
            try:
                days = number_of(text_of(form, "days") or str(DAYS), 0)
                done = await self._changes.do(
                    lambda one, held: one.renew(actor, named(held, which), new_key=new_key, days=days)
                )
            except Refused as error:
                return self._certificate(request, session, error)
        if isinstance(done, answers.Request):
            session.done = [news_of(done)]
            return send_on("/requests")
        return await self._frame.done(session, [done])

    async def export(self, request: Request, session: Session) -> Response:
        """Hand out a part of one."""
        actor, which = actor_of(request), request.path_params["fingerprint"]
        async with Form(request, session) as form:
            part = next((one for one in PARTS if one == text_of(form, "part")), None)
            if part is None:
                raise Refused(f"there is no such part; choose from {', '.join(PARTS)}")
            passphrase = text_of(form, "passphrase") or None
            try:
                found = await self._changes.do(
                    lambda one, held: one.export(actor, named(held, which), part, passphrase)
                )
            except Refused as error:
                return self._certificate(request, session, error)
        return file(found)

    async def delete_form(self, request: Request, session: Session) -> Response:
        """What would come of it."""
        which = request.path_params["fingerprint"]
        one = self._view.certificate(which)
        try:
            done = await self._changes.do(lambda management, held: management.delete(None, named(held, which)))
        except CertstoreError as error:
            return self._certificate(request, session, error)
        name = (*one.names, *one.addresses, one.fingerprint[:16])[0]
        return self._frame.confirm(
            session,
            question=f"Delete {name}?",
            sentence=f"Certificate {one.fingerprint[:16]}, valid until {one.not_after}, is moved to the trash in the "
            "state directory, with its key.",
            action=f"/certificates/{one.fingerprint}/delete",
            button="Delete",
            back="/certificates",
            done=done,
            is_danger=True,
        )

    async def delete(self, request: Request, session: Session) -> Response:
        """Move it to the trash."""
        actor, which = actor_of(request), request.path_params["fingerprint"]
        async with Form(request, session):
            try:
                done = await self._changes.do(lambda one, held: one.delete(actor, named(held, which)))
            except CertstoreError as error:
                return self._certificate(request, session, error)
        return await self._frame.done(session, [done])

    async def default_form(self, request: Request, session: Session) -> Response:
        """What would come of another default."""
        host = _host(request.query_params.get("host", ""))
        done = await self._changes.do(lambda one, _: one.set_default(None, host))
        return self._frame.confirm(
            session,
            question=f"Set {host} as default?",
            sentence="Its certificate is served then to clients that send no name, or one that no certificate has.",
            action="/default",
            button="Set as default",
            back="/certificates",
            done=done,
            host=host,
        )

    async def set_default(self, request: Request, session: Session) -> Response:
        """Let one be the default."""
        actor = actor_of(request)
        async with Form(request, session) as form:
            host = _host(text_of(form, "host"))
            done = await self._changes.do(lambda one, _: one.set_default(actor, host))
        return await self._frame.done(session, [done])


def _host(text: str) -> str:
    try:
        return canonical_name(text)
    except InvalidName as error:
        raise Refused(str(error), "host") from None


def _matches(one: answers.Certificate, wanted: str) -> bool:
    texts = (*one.names, *one.addresses, one.issuer.lower(), one.standing, one.key_type)
    return one.fingerprint.startswith(wanted) or any(wanted in text for text in texts)
