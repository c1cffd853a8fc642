"""The console: pages made here, for people. Whatever they change goes through admin.management, as with the API.

Every form carries its session's secret; Guard has seen to Host and Origin before. After a change the browser is sent on
(303), so that to reload a page changes nothing; what was done is shown there once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from admin.changes import Changes
from admin.console.certificate_pages import CertificatePages
from admin.console.frame import COOKIE, Frame, Page, send_on, who
from admin.console.request_pages import RequestPages
from admin.console.server_pages import ServerPages
from admin.console.sessions import Sessions
from admin.view import View

AT_ONCE = 8  # attempts to sign in
PATIENCE = 3.0  # seconds for what is sent with one
PAUSE = 1.0  # seconds before a wrong token is answered
MAX_TOKEN = 2048  # bytes of a form
_STATIC = {"style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Console:
    """Signing in, and where each page is."""

    def __init__(self, view: View, changes: Changes, sessions: Sessions, metrics_directory: Path) -> None:
        self._sessions = sessions
        self._signing_in = 0
        self._frame = Frame(view, sessions)
        self._certificates = CertificatePages(self._frame, view, changes)
        self._requests = RequestPages(self._frame, changes)
        self._server = ServerPages(self._frame, view, metrics_directory)

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        one = "/certificates/{fingerprint}"
        certificates, requests, server = self._certificates, self._requests, self._server
        pages: list[tuple[str, str, Page]] = [
            ("GET", "/certificates", certificates.certificates),
            ("GET", "/certificates/new", certificates.new),
            ("POST", "/certificates/new", certificates.make),
            ("GET", "/certificates/import", certificates.import_form),
            ("POST", "/certificates/import", certificates.import_),
            ("GET", one, certificates.certificate),
            ("POST", f"{one}/renew", certificates.renew),
            ("POST", f"{one}/export", certificates.export),
            ("GET", f"{one}/delete", certificates.delete_form),
            ("POST", f"{one}/delete", certificates.delete),
            ("GET", "/default", certificates.default_form),
            ("POST", "/default", certificates.set_default),
            ("GET", "/requests", requests.requests),
            ("GET", "/requests/new", requests.request_form),
            ("POST", "/requests/new", requests.request),
            ("POST", "/requests/{id}/download", requests.download_request),
            ("GET", "/requests/{id}/withdraw", requests.withdraw_form),
            ("POST", "/requests/{id}/withdraw", requests.withdraw),
            ("GET", "/roots", requests.roots),
            ("POST", "/roots", requests.add_root),
            ("GET", "/roots/{fingerprint}/remove", requests.remove_form),
            ("POST", "/roots/{fingerprint}/remove", requests.remove_root),
            ("GET", "/served", server.served),
            ("GET", "/server", server.server),
        ]
        return [
            Route("/", self.index),
            Route("/sign-in", self.sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
            Route("/console/{name}", self.static),
            *(Route(path, self._frame.signed_in(page), methods=[method]) for method, path, page in pages),
        ]

    async def index(self, request: Request) -> Response:
        """The certificates, or the way in."""
        session = await self._frame.session(request)
        if session is None:
            return self._frame.page("sign_in.html", None, error="", by_link=False)
        return await self._certificates.certificates(request, session)

    async def sign_in(self, request: Request) -> Response:
        """Ask for the token, and look at it."""
        if request.method != "POST":
            return self._frame.page("sign_in.html", None, error="", by_link=True)
        if self._signing_in >= AT_ONCE:
            return self._frame.page("sign_in.html", None, 503, error="Too many at a time; try again.", by_link=False)
        self._signing_in += 1
        try:
            cookie = await self._look_at_token(request)
        finally:
            self._signing_in -= 1
        if cookie is None:
            return self._frame.page("sign_in.html", None, 403, error="That is not the token.", by_link=False)
        answer = send_on("/certificates")
        answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")
        return answer

    async def _look_at_token(self, request: Request) -> str | None:
        """A session's cookie for the right token, or the code of the link; for others nothing, after a while."""
        if request.headers.get("content-type", "").lower() != "application/x-www-form-urlencoded":
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                data = await request.body()
        except (TimeoutError, ClientDisconnect):
            return None
        fields = parse_qs(data[:MAX_TOKEN].decode("ascii", "replace"))
        token = fields.get("token", [""])[0]
        cookie = self._sessions.sign_in(token, await who(request)) if self._sessions.accepts(token) else None
        if cookie is None:
            await asyncio.sleep(PAUSE)
        return cookie

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        if await self._frame.session(request) is not None:
            self._sessions.sign_out(request.cookies.get(COOKIE))
        answer = send_on("/sign-in")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
        return answer

    async def static(self, request: Request) -> Response:
        """The style sheet and the script."""
        name = request.path_params["name"]
        if name not in _STATIC:
            return Response(status_code=404)
        return Response((Path(__file__).parent / "static" / name).read_bytes(), media_type=_STATIC[name])
