"""What all pages of the console have in common: sessions, forms, templates, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from admin import answers
from admin.audit import Actor
from admin.console.sessions import Session, Sessions
from admin.console.timeline import kind
from admin.peer import UNKNOWN, owner_of
from admin.refusal import NotFound, Refused
from admin.text import plain
from admin.version import version
from admin.view import View
from certstore.errors import CertstoreError
from certstore.incoming import MAX_BYTES, MAX_FILES
from certstore.issue import KEY_TYPES, Subject

COOKIE = "snigate"
MAX_FIELDS = 40
NOTICED = 2.0  # seconds that a page waits for the keeper to have noticed what was done
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",  # with "no-referrer" browsers say "Origin: null" with our own forms
}
Page = Callable[[Request, Session], Awaitable[Response]]


class Frame:
    """Makes pages, for those who have signed in and for those who are to."""

    def __init__(self, view: View, sessions: Sessions) -> None:
        self._view = view
        self._sessions = sessions
        self._templates = Environment(
            loader=PackageLoader("admin.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.globals.update(version=version(), key_types=KEY_TYPES, kind=kind)

    async def session(self, request: Request) -> Session | None:
        """Whose request it is."""
        cookie = request.cookies.get(COOKIE)
        return self._sessions.get(cookie, await who(request)) if self._sessions.knows(cookie) else None

    def signed_in(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """The page for those who have signed in; others are sent to where they can."""

        async def guarded(request: Request) -> Response:
            session = await self.session(request)
            if session is None:
                return send_on("/sign-in")
            try:
                return await page(request, session)
            except NotFound as error:
                return self.page("refused.html", session, 404, error=str(error))
            except CertstoreError as error:
                return self.page("refused.html", session, 422, error=str(error))

        return guarded

    def page(self, template: str, session: Session | None, code: int = 200, **values: Any) -> Response:
        """A page. What was done last is shown on it, once, unless something went wrong."""
        done: Sequence[answers.Done] = ()
        if session is not None and code < 400:
            done, session.done = session.done, []
        csrf = session.csrf if session is not None else ""
        text = self._templates.get_template(template).render(session=session, csrf=csrf, news=done, **values)
        return HTMLResponse(text, code, _HEADERS)

    def confirm(
        self,
        session: Session,
        *,
        question: str,
        sentence: str,
        action: str,
        button: str,
        back: str,
        done: answers.Done | None = None,
        host: str = "",
        is_danger: bool = False,
    ) -> Response:
        """A page that asks before something is done at `action`; `done` is what would come of it."""
        return self.page(
            "confirm.html",
            session,
            question=question,
            sentence=sentence,
            action=action,
            button=button,
            back=back,
            done=done,
            host=host,
            is_danger=is_danger,
        )

    async def done(self, session: Session, done: list[answers.Done], path: str = "/certificates") -> Response:
        """Go on to a page that shows what was done, once the keeper has told of it, or a moment has passed."""
        session.done = done
        held = self._view.replica.index.certificates
        for _ in range(int(NOTICED / 0.05)):
            if all((one.fingerprint in held) == (one.action != "delete") for one in done if one.changes):
                break
            await asyncio.sleep(0.05)
        return send_on(path)


def insist_on_plain_form(request: Request) -> None:
    """Raise Refused for a form in an encoding that no browser uses here: a stranger is not to choose a codec."""
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    is_known = kind.strip().lower() in ("application/x-www-form-urlencoded", "multipart/form-data")
    if not is_known or "charset" in rest.lower():
        raise Refused("this is not how a browser sends a form")


class Form:
    """A form's fields, once its session's secret was among them."""

    def __init__(self, request: Request, session: Session) -> None:
        insist_on_plain_form(request)
        self._opening = request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_BYTES)
        self._session = session

    async def __aenter__(self) -> FormData:
        form = await self._opening.__aenter__()
        if not self._session.has_sent(text_of(form, "csrf")):
            await self._opening.__aexit__(None, None, None)
            raise Refused("This form is from an earlier session; go back, reload the page, and try again")
        return form

    async def __aexit__(self, *error: Any) -> None:
        await self._opening.__aexit__(*error)


def given_in(form: FormData | None, **otherwise: str) -> dict[str, str]:
    """What was filled in, to be shown again where it is refused."""
    fields = ("names", "key_type", "days", *Subject.__struct_fields__)
    return {field: (text_of(form, field) if form is not None else "") or otherwise.get(field, "") for field in fields}


def text_of(form: FormData, field: str) -> str:
    """What was filled in."""
    value = form.get(field)
    return value if isinstance(value, str) else ""


async def uploads(form: FormData) -> list[tuple[str, bytes]]:
    """The files, and what was pasted."""
    files = [
        (plain(one.filename or "the file")[:200], await one.read())
        for one in form.getlist("files")
        if isinstance(one, UploadFile) and (one.filename or one.size)
    ]
    if pasted := text_of(form, "pasted").strip():
        files.append(("what was pasted", pasted.encode()))
    if not files:
        raise Refused("choose a file, or paste its text", "files")
    return files


def number_of(text: str | None, otherwise: int) -> int:
    """A number that was filled in."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else otherwise


def status_of(error: CertstoreError | None) -> int:
    """The answer's."""
    return 200 if error is None else 422


def actor_of(request: Request) -> Actor:
    """Who is at the browser, as far as is known."""
    return Actor("console", address_of(request))


async def who(request: Request) -> str:
    """At the other end: a user of this machine, or another machine; see admin.peer."""
    client, server = request.client, request.scope.get("server")
    if client is None or not server:
        return UNKNOWN
    return await asyncio.to_thread(owner_of, (client.host, client.port), (server[0], server[1] or 0))


def address_of(request: Request) -> str:
    """Where the request came from."""
    return request.client.host if request.client is not None else "unknown"


def send_on(path: str) -> RedirectResponse:
    """Have the browser ask for another page."""
    return RedirectResponse(path, 303)
