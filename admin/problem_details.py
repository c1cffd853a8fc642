"""Errors of the HTTP interface, as problem details (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from admin.answers import ProblemDetails

MEDIA_TYPE = "application/problem+json"


def problem(status: int, detail: str, headers: dict[str, str] | None = None, *, field: str = "") -> Response:
    """An error answer; `detail` is a sentence that says what to do, `field` what of the request is to be corrected."""
    body = msgspec.json.encode(ProblemDetails(HTTPStatus(status).phrase, status, detail, field or None))
    return Response(body, status, headers, MEDIA_TYPE)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette raises by itself: no such path, no such method."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(404, "nothing is here; /api/v1/openapi.json lists what the API has")
    return problem(error.status_code, error.detail, dict(error.headers or {}))


async def on_exception(request: Request, error: Exception) -> Response:
    """A failure of our own; the log has the rest."""
    return problem(500, "snigate could not answer; its log says why")
