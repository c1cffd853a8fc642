"""The API's description (OpenAPI 3.1), made from the types it answers with."""

from __future__ import annotations

from typing import Any

import msgspec

from admin import answers
from admin.problem_details import MEDIA_TYPE
from admin.version import version

_TYPES = (answers.Certificates, answers.Explanation, answers.Status, answers.ProblemDetails)
_HOST = {
    "name": "host",
    "in": "query",
    "required": True,
    "allowEmptyValue": True,
    "description": "A host name in any spelling, or a wildcard; empty stands for a client that sends no server name.",
    "schema": {"type": "string"},
}
_LISTENER = {
    "name": "listener",
    "in": "query",
    "required": False,
    "description": "A listener's name, to take its own default and pins into account.",
    "schema": {"type": "string"},
}
_REFUSALS = {
    "401": "The token is missing or wrong.",
    "403": "A page of another site asked.",
    "421": "The Host header names another host.",
}


def _path(summary: str, answer: str, refusals: dict[str, str], parameters: list[Any] | None = None) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": "The answer.",
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}},
        }
    }
    for status, description in refusals.items():
        schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
        responses[status] = {"description": description, "content": {MEDIA_TYPE: schema}}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


PATHS: dict[str, Any] = {
    "/api/v1/certificates": _path("Every certificate, and files with problems", "Certificates", _REFUSALS),
    "/api/v1/explain": _path(
        "Which certificate a host name is served, and why",
        "Explanation",
        {"400": "The host name is missing or is none, or there is no such listener.", **_REFUSALS},
        [_HOST, _LISTENER],
    ),
    "/api/v1/status": _path("Processes, listeners and the certificate store", "Status", _REFUSALS),
}


def _document() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "snigate", "version": version(), "license": {"name": "Apache-2.0"}},
        "paths": PATHS,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


DOCUMENT: bytes = msgspec.json.format(msgspec.json.encode(_document()))
