"""The console: pages made here, for people. Whatever they change goes through admin.management, as with the API.

Every form carries its session's secret; Guard has seen to Host and Origin before. After a change the browser is sent on
(303), so that to reload a page changes nothing; what was done is shown there once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from admin import answers
from admin.audit import Actor
from admin.changes import Changes, file
from admin.console.figures import figures
from admin.console.sessions import Session, Sessions
from admin.console.timeline import kind, timeline
from admin.explanation import asked, configured_hosts
from admin.export import PARTS, Exported
from admin.management import DAYS, KEY_TYPE
from admin.refusal import NotFound, Refused, named
from admin.text import plain
from admin.version import version
from admin.view import View
from certstore.errors import CertstoreError
from certstore.incoming import MAX_BYTES, MAX_FILES
from certstore.issue import KEY_TYPES, Subject
from certstore.names import InvalidName, canonical_name

COOKIE = "snigate"
PER_PAGE = 100
MAX_FIELDS = 40
SORTS = {
    "expiry": lambda one: (one.days_left, one.fingerprint),
    "name": lambda one: ((*one.names, *one.addresses, "~")[0].removeprefix("*."), one.fingerprint),
    "standing": lambda one: (one.standing, one.days_left),
}
_CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
Page = Callable[[Request, Session], Awaitable[Response]]


class Console:
    """The handlers."""

    def __init__(self, view: View, changes: Changes, sessions: Sessions, metrics_directory: Path) -> None:
        self._view = view
        self._changes = changes
        self._sessions = sessions
        self._metrics_directory = metrics_directory
        self._templates = Environment(
            loader=PackageLoader("admin.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.globals.update(version=version(), key_types=KEY_TYPES, kind=kind)

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        one = "/certificates/{fingerprint}"
        pages: list[tuple[str, str, Page]] = [
            ("GET", "/certificates", self.certificates),
            ("GET", "/certificates/new", self.new),
            ("POST", "/certificates/new", self.make),
            ("GET", "/certificates/import", self.import_form),
            ("POST", "/certificates/import", self.import_),
            ("GET", one, self.certificate),
            ("POST", f"{one}/renew", self.renew),
            ("POST", f"{one}/export", self.export),
            ("GET", f"{one}/delete", self.delete_form),
            ("POST", f"{one}/delete", self.delete),
            ("POST", "/default", self.set_default),
            ("GET", "/requests", self.requests),
            ("GET", "/requests/new", self.request_form),
            ("POST", "/requests/new", self.request),
            ("POST", "/requests/{id}/download", self.download_request),
            ("POST", "/requests/{id}/withdraw", self.withdraw),
            ("GET", "/roots", self.roots),
            ("POST", "/roots", self.add_root),
            ("POST", "/roots/{fingerprint}/remove", self.remove_root),
            ("GET", "/served", self.served),
            ("GET", "/server", self.server),
        ]
        return [
            Route("/", self.index),
            Route("/sign-in", self.sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
            Route("/console/{name}", self.static),
            *(Route(path, self._signed_in(page), methods=[method]) for method, path, page in pages),
        ]

    # Signing in

    async def index(self, request: Request) -> Response:
        """The certificates, or the way in."""
        session = self._session(request)
        if session is None:
            return self._page("sign_in.html", None, error="", by_link=False)
        return await self.certificates(request, session)

    async def sign_in(self, request: Request) -> Response:
        """Ask for the token, and look at it."""
        if request.method != "POST":
            return self._page("sign_in.html", None, error="", by_link=True)
        address = _address(request)
        if (wait := self._sessions.wait(address)) > 0:
            error = f"Too many wrong tokens from here; try again in {wait / 60:.0f} minutes."
            return self._page("sign_in.html", None, 429, error=error, by_link=False)
        async with request.form(max_files=0, max_fields=4) as form:
            cookie = self._sessions.sign_in(_text(form, "token"), address)
        if cookie is None:
            return self._page("sign_in.html", None, 403, error="That is not the token.", by_link=False)
        answer = _send_on("/certificates")
        answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        self._sessions.sign_out(request.cookies.get(COOKIE))
        answer = _send_on("/sign-in")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
        return answer

    async def static(self, request: Request) -> Response:
        """The style sheet and the script."""
        kinds = {"style.css": "text/css", "script.js": "text/javascript"}
        name = request.path_params["name"]
        if name not in kinds:
            return Response(status_code=404)
        return Response((Path(__file__).parent / "static" / name).read_bytes(), media_type=kinds[name])

    # Certificates

    async def certificates(self, request: Request, session: Session) -> Response:
        """All of them, filtered and sorted, and when they expire."""
        found = await self._view.certificates()
        wanted, sort = request.query_params.get("q", "").strip().lower(), request.query_params.get("sort", "expiry")
        rows = [one for one in found.certificates if not wanted or _matches(one, wanted)]
        rows.sort(key=SORTS.get(sort, SORTS["expiry"]))
        pages = max(1, -(-len(rows) // PER_PAGE))
        page = min(max(1, _number(request.query_params.get("page"), 1)), pages)
        return self._page(
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
        return self._page("certificate.html", session, _status(error), one=one, error=error, parts=PARTS, days=DAYS)

    async def new(self, request: Request, session: Session) -> Response:
        """The form for a self-signed certificate."""
        return self._page("new.html", session, error=None, given=_given(None, key_type=KEY_TYPE, days=str(DAYS)))

    async def make(self, request: Request, session: Session) -> Response:
        """Make one."""
        actor = _actor(request)
        async with self._form(request, session) as form:
            given = _given(form, key_type=KEY_TYPE, days=str(DAYS))
            try:
                days = _number(given["days"], 0)
                done = await self._changes.do(
                    lambda one, _: one.new(actor, given["names"].split(), given["key_type"], days)
                )
            except CertstoreError as error:
                return self._page("new.html", session, 422, error=error, given=given)
        return self._done(session, [done])

    async def import_form(self, request: Request, session: Session) -> Response:
        """The form for files."""
        return self._page("import.html", session, error=None)

    async def import_(self, request: Request, session: Session) -> Response:
        """Take them in."""
        actor = _actor(request)
        async with self._form(request, session) as form:
            try:
                files, passphrase = await _uploads(form), _text(form, "passphrase") or None
                done = await self._changes.do(lambda one, _: one.import_(actor, files, passphrase))
            except CertstoreError as error:
                return self._page("import.html", session, 422, error=error)
        return self._done(session, done)

    async def renew(self, request: Request, session: Session) -> Response:
        """Make one anew, or a request for it."""
        actor, which = _actor(request), request.path_params["fingerprint"]
        async with self._form(request, session) as form:
            new_key = _text(form, "new_key") == "yes"
            try:
                days = _number(_text(form, "days"), DAYS)
                done = await self._changes.do(
                    lambda one, held: one.renew(actor, named(held, which), new_key=new_key, days=days)
                )
            except Refused as error:
                return self._certificate(request, session, error)
        return _send_on("/requests") if isinstance(done, answers.Request) else self._done(session, [done])

    async def export(self, request: Request, session: Session) -> Response:
        """Hand out a part of one."""
        actor, which = _actor(request), request.path_params["fingerprint"]
        async with self._form(request, session) as form:
            part = next((one for one in PARTS if one == _text(form, "part")), PARTS[0])
            passphrase = _text(form, "passphrase") or None
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
        return self._page("delete.html", session, one=one, done=done)

    async def delete(self, request: Request, session: Session) -> Response:
        """Move it to the trash."""
        actor, which = _actor(request), request.path_params["fingerprint"]
        async with self._form(request, session):
            try:
                done = await self._changes.do(lambda one, held: one.delete(actor, named(held, which)))
            except CertstoreError as error:
                return self._certificate(request, session, error)
        return self._done(session, [done])

    async def set_default(self, request: Request, session: Session) -> Response:
        """Let one be the default."""
        actor = _actor(request)
        async with self._form(request, session) as form:
            try:
                host = canonical_name(_text(form, "host"))
                done = await self._changes.do(lambda one, _: one.set_default(actor, host))
            except (CertstoreError, InvalidName) as error:
                return self._page("refused.html", session, 422, error=str(error))
        return self._done(session, [done])

    # Requests

    async def requests(self, request: Request, session: Session) -> Response:
        """Those that wait."""
        waiting = await self._changes.do(lambda one, _: one.requests())
        return self._page("requests.html", session, waiting=waiting)

    async def request_form(self, request: Request, session: Session) -> Response:
        """The form for one."""
        return self._page("request.html", session, error=None, given=_given(None, key_type=KEY_TYPE))

    async def request(self, request: Request, session: Session) -> Response:
        """Make one."""
        actor = _actor(request)
        async with self._form(request, session) as form:
            given = _given(form, key_type=KEY_TYPE)
            subject = Subject(*(given[field] for field in Subject.__struct_fields__))
            try:
                await self._changes.do(
                    lambda one, _: one.request(actor, given["names"].split(), subject, given["key_type"])
                )
            except CertstoreError as error:
                return self._page("request.html", session, 422, error=error, given=given)
        return _send_on("/requests")

    async def download_request(self, request: Request, session: Session) -> Response:
        """One as a file."""
        which = request.path_params["id"]
        async with self._form(request, session):
            found = await self._changes.do(lambda one, _: one.waiting(which))
        name = (*found.names.hosts, *found.names.addresses, "request")[0].replace("*", "_").replace(":", "_")
        return file(Exported(f"{name}.csr", found.request, "application/pkcs10"))

    async def withdraw(self, request: Request, session: Session) -> Response:
        """Move one to the trash."""
        actor, which = _actor(request), request.path_params["id"]
        async with self._form(request, session):
            done = await self._changes.do(lambda one, _: one.withdraw(actor, one.waiting(which)))
        session.done = [done]
        return _send_on("/requests")

    # Roots

    async def roots(self, request: Request, session: Session) -> Response:
        """Those that are trusted."""
        return await self._roots(session)

    async def _roots(self, session: Session, error: CertstoreError | None = None) -> Response:
        found = await self._changes.do(lambda one, _: one.roots.every())
        return self._page("roots.html", session, _status(error), roots=found, error=error)

    async def add_root(self, request: Request, session: Session) -> Response:
        """Trust some."""
        actor = _actor(request)
        async with self._form(request, session) as form:
            try:
                files = await _uploads(form)
                await self._changes.do(lambda one, _: one.roots.add(actor, files))
            except CertstoreError as error:
                return await self._roots(session, error)
        return _send_on("/roots")

    async def remove_root(self, request: Request, session: Session) -> Response:
        """Trust one no more."""
        actor, which = _actor(request), request.path_params["fingerprint"]
        async with self._form(request, session):
            try:
                await self._changes.do(lambda one, _: one.roots.remove(actor, which))
            except CertstoreError as error:
                return await self._roots(session, error)
        return _send_on("/roots")

    # How things are

    async def served(self, request: Request, session: Session) -> Response:
        """What would be served for a host name, and why."""
        host = request.query_params.get("host")
        found, error = None, ""
        if host is not None:
            try:
                found = self._view.explain(asked(host.strip()))
            except InvalidName as wrong:
                error = plain(str(wrong))
        uncovered = [
            name for name in configured_hosts(self._view.config) if not self._view.explain(asked(name)).covered
        ]
        return self._page("served.html", session, host=host or "", found=found, error=error, uncovered=uncovered)

    async def server(self, request: Request, session: Session) -> Response:
        """Processes, listeners, backends, failures, problems."""
        shown = await asyncio.to_thread(figures, self._metrics_directory)
        report = self._view.replica.report
        problems = report.problems if report is not None else ()
        status = self._view.status()
        return self._page("server.html", session, status=status, figures=shown, problems=problems)

    # Parts of these

    def _signed_in(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """The page for those who have signed in; others are sent to where they can."""

        async def guarded(request: Request) -> Response:
            session = self._session(request)
            if session is None:
                return _send_on("/sign-in")
            try:
                return await page(request, session)
            except NotFound:
                return self._page("refused.html", session, 404, error="There is no such certificate any more.")
            except CertstoreError as error:
                return self._page("refused.html", session, 422, error=str(error))

        return guarded

    def _session(self, request: Request) -> Session | None:
        return self._sessions.get(request.cookies.get(COOKIE))

    def _form(self, request: Request, session: Session) -> _Form:
        return _Form(request, session)

    def _page(self, template: str, session: Session | None, code: int = 200, **values: Any) -> Response:
        done: Sequence[answers.Done] = ()
        if session is not None and code < 400:
            done, session.done = session.done, []
        csrf = session.csrf if session is not None else ""
        text = self._templates.get_template(template).render(session=session, csrf=csrf, news=done, **values)
        return HTMLResponse(text, code, {"content-security-policy": _CONTENT_POLICY})

    def _done(self, session: Session, done: list[answers.Done]) -> Response:
        session.done = done
        return _send_on("/certificates")


class _Form:
    """A form's fields, once its session's secret was among them."""

    def __init__(self, request: Request, session: Session) -> None:
        self._opening = request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_BYTES)
        self._session = session

    async def __aenter__(self) -> FormData:
        form = await self._opening.__aenter__()
        if not self._session.has_sent(_text(form, "csrf")):
            await self._opening.__aexit__(None, None, None)
            raise Refused("This form is from an earlier session; go back, reload the page, and try again")
        return form

    async def __aexit__(self, *error: Any) -> None:
        await self._opening.__aexit__(*error)


def _given(form: FormData | None, **otherwise: str) -> dict[str, str]:
    """What was filled in, to be shown again where it is refused."""
    fields = ("names", "key_type", "days", *Subject.__struct_fields__)
    return {field: (_text(form, field) if form is not None else "") or otherwise.get(field, "") for field in fields}


def _text(form: FormData, field: str) -> str:
    value = form.get(field)
    return value if isinstance(value, str) else ""


async def _uploads(form: FormData) -> list[tuple[str, bytes]]:
    """The files, and what was pasted."""
    files = [
        (plain(one.filename or "the file")[:200], await one.read())
        for one in form.getlist("files")
        if isinstance(one, UploadFile) and (one.filename or one.size)
    ]
    if pasted := _text(form, "pasted").strip():
        files.append(("what was pasted", pasted.encode()))
    if not files:
        raise Refused("choose a file, or paste its text", "files")
    return files


def _matches(one: answers.Certificate, wanted: str) -> bool:
    texts = (*one.names, *one.addresses, one.issuer.lower(), one.standing, one.key_type)
    return one.fingerprint.startswith(wanted) or any(wanted in text for text in texts)


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else otherwise


def _status(error: CertstoreError | None) -> int:
    return 200 if error is None else 422


def _actor(request: Request) -> Actor:
    return Actor("console", _address(request))


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


def _send_on(path: str) -> RedirectResponse:
    return RedirectResponse(path, 303)
