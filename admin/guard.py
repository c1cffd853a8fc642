"""Who may ask, and how: checked before any endpoint sees a request.

The admin address is on loopback by default, but a browser on the same machine reaches loopback too, and so do the
pages it shows. A page of another site can make its own host name resolve to 127.0.0.1 (DNS rebinding) and would then
be same-origin with us; hence Host must be one that an operator would use: an IP address (which cannot be rebound),
localhost, this machine's name or the configured one. Origin, which browsers add where it matters, must be our own.
The API needs the token besides. Over the Unix socket the file's permissions are the guard, and over the metrics
address nothing secret is answered, so there Host may be anything.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import access_token
from admin.problem_details import problem

API = "/api/"
OPEN = frozenset({"/api/v1/openapi.json"})
MAX_BODY = 3 << 19  # bytes: MAX_BYTES of certstore.incoming in base64, and what is around it

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(?::\d{1,5})?")
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def own_names(listen: str | None) -> frozenset[str]:
    """The host names an operator may use for the admin address; `listen` is the configured host."""
    machine = socket.gethostname().lower()
    return frozenset(name for name in ("localhost", machine, machine.partition(".")[0], listen) if name)


def is_own_host(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header's value is an IP address or one of `names`, with or without a port."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match["name"].lower().removesuffix(".")
    if name in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def is_same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header's value (RFC 6454) is of the host that was asked."""
    try:
        split = urlsplit(origin)
    except ValueError:
        return False
    return split.scheme in ("http", "https") and not split.path and split.netloc.lower() == host.lower()


class Guard:
    """ASGI middleware. `names` None: any Host; `token` None: the API needs none. `where` tells where the token is.

    With `changes`, requests that change something are let through too, with bodies; those that are not for the API
    only with an Origin, which every browser sends along with a form, and which is looked at as ever.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: frozenset[str] | None,
        token: str | None,
        where: str = "",
        *,
        changes: bool = False,
    ) -> None:
        self._app = app
        self._names = names
        self._token = token
        self._where = where
        self._changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; every answer gets the headers that keep browsers from misusing it."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        host = headers.get(b"host", [])
        if self._names is not None:
            text = host[0].decode("latin-1") if len(host) == 1 else ""
            if not is_own_host(text, self._names):
                return problem(
                    421, "this host name is not served here; use an IP address, localhost, or admin.listen's host"
                )
            if any(not is_same_origin(origin.decode("latin-1"), text) for origin in headers.get(b"origin", [])):
                return problem(403, "a page of another site asked; only snigate's own pages may")
        may_change = self._changes and scope["method"] not in ("GET", "HEAD")
        if scope["method"] not in ("GET", "HEAD") and not may_change:
            return problem(405, "only GET and HEAD are answered", {"allow": "GET, HEAD"})
        if may_change and not scope["path"].startswith(API) and self._names is not None and b"origin" not in headers:
            return problem(403, "a form is sent from snigate's own pages alone, by a browser that says so (Origin)")
        return _too_much(headers, MAX_BODY if may_change else 0) or self._unauthorized(scope["path"], headers)

    def _unauthorized(self, path: str, headers: dict[bytes, list[bytes]]) -> Response | None:
        if self._token is None or path in OPEN or not path.startswith(API):
            return None
        given = headers.get(b"authorization", [])
        if len(given) == 1 and access_token.matches(self._token, given[0]):
            return None
        return problem(
            401,
            f'the API needs the header "Authorization: Bearer TOKEN"; the token is in {self._where}',
            {"www-authenticate": 'Bearer realm="snigate"'},
        )


def _too_much(headers: dict[bytes, list[bytes]], most: int) -> Response | None:
    """A refusal of a body that is larger than that, or does not say how large it is."""
    lengths = headers.get(b"content-length", [])
    if b"transfer-encoding" in headers and most:
        return problem(411, "say how long the body is, by Content-Length", {"connection": "close"})
    if b"transfer-encoding" in headers or any(not one.isdigit() or len(one) > 9 or int(one) > most for one in lengths):
        text = f"the body has more than {most} bytes; send less" if most else "no request here takes a body; send none"
        return problem(413, text, {"connection": "close"})
    return None


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
