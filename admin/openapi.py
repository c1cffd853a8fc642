"""The API's description (OpenAPI 3.1), made from the types that it takes and answers with."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from admin import answers, changes
from admin.problem_details import MEDIA_TYPE
from admin.version import version

_SCHEMAS = "#/components/schemas/"
_TYPES = (
    answers.Certificate,
    answers.Certificates,
    answers.Done,
    answers.Explanation,
    answers.ProblemDetails,
    answers.Request,
    answers.Root,
    answers.Status,
    changes.Default,
    changes.Export,
    changes.Import,
    changes.New,
    changes.NewRequest,
    changes.Renewal,
    changes.RootFiles,
)
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
_DRY_RUN = {
    "name": "dry_run",
    "in": "query",
    "required": False,
    "description": "Do nothing, and say what would come of it.",
    "schema": {"type": "boolean"},
}
_FINGERPRINT = {
    "name": "fingerprint",
    "in": "path",
    "required": True,
    "description": "The beginning of a SHA-256 fingerprint, hexadecimal.",
    "schema": {"type": "string", "minLength": 4},
}
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "A name of the request, or the beginning of its id.",
    "schema": {"type": "string", "minLength": 1},
}
_REFUSALS = {
    "401": "The token is missing or wrong.",
    "403": "A page of another site asked.",
    "421": "The Host header names another host.",
}
_OF_CHANGES = {
    "411": "The body's length is not said.",
    "413": "The body is too large.",
    "422": "What is asked for cannot be done; `field` is what to correct.",
    "500": "A file cannot be written.",
}
_NOT_FOUND = {"404": "There is no such certificate."}


class _Operation(NamedTuple):
    method: str
    path: str
    summary: str
    answer: dict[str, Any] | None  # its schema; None: a file
    refusals: dict[str, str]
    parameters: tuple[dict[str, Any], ...] = ()
    body: str = ""  # a type's name
    status: str = "200"


def _one(name: str) -> dict[str, Any]:
    return {"$ref": _SCHEMAS + name}


def _many(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _one(name)}


_CHANGE = {**_REFUSALS, **_OF_CHANGES}
_EVERY = "/api/v1/certificates"
_CERTIFICATE = f"{_EVERY}/{{fingerprint}}"
_DONE_OR_REQUEST = {"anyOf": [_one("Done"), _one("Request")]}
_OPERATIONS = (
    _Operation(
        "get", "/api/v1/certificates", "Every certificate, and files with problems", _one("Certificates"), _REFUSALS
    ),
    _Operation(
        "post", "/api/v1/certificates", "Make a self-signed certificate", _one("Done"), _CHANGE, (), "New", "201"
    ),
    _Operation("post", f"{_EVERY}/import", "Import certificates", _many("Done"), _CHANGE, (), "Import", "201"),
    _Operation(
        "get", _CERTIFICATE, "One certificate", _one("Certificate"), {**_REFUSALS, **_NOT_FOUND}, (_FINGERPRINT,)
    ),
    _Operation(
        "delete",
        _CERTIFICATE,
        "Move a certificate to the trash",
        _one("Done"),
        {**_CHANGE, **_NOT_FOUND},
        (_FINGERPRINT, _DRY_RUN),
    ),
    _Operation(
        "post",
        f"{_CERTIFICATE}/renew",
        "Make a certificate anew, or a request for it",
        _DONE_OR_REQUEST,
        {**_CHANGE, **_NOT_FOUND},
        (_FINGERPRINT,),
        "Renewal",
        "201",
    ),
    _Operation(
        "post",
        f"{_CERTIFICATE}/export",
        "A part of a certificate, as a file",
        None,
        {**_CHANGE, **_NOT_FOUND},
        (_FINGERPRINT,),
        "Export",
    ),
    _Operation("get", "/api/v1/requests", "Requests that wait for their certificates", _many("Request"), _REFUSALS),
    _Operation("post", "/api/v1/requests", "Make a request", _one("Request"), _CHANGE, (), "NewRequest", "201"),
    _Operation("delete", "/api/v1/requests/{id}", "Move a request to the trash", _one("Done"), _CHANGE, (_ID,)),
    _Operation("put", "/api/v1/default", "Set the default certificate", _one("Done"), _CHANGE, (_DRY_RUN,), "Default"),
    _Operation("get", "/api/v1/trust", "Trusted root certificates", _many("Root"), _REFUSALS),
    _Operation("post", "/api/v1/trust", "Trust root certificates", _many("Root"), _CHANGE, (), "RootFiles", "201"),
    _Operation("delete", "/api/v1/trust/{fingerprint}", "Trust a root no more", _one("Root"), _CHANGE, (_FINGERPRINT,)),
    _Operation(
        "get",
        "/api/v1/explain",
        "Which certificate a host name is served, and why",
        _one("Explanation"),
        {"400": "The host name is missing or is none, or there is no such listener.", **_REFUSALS},
        (_HOST, _LISTENER),
    ),
    _Operation("get", "/api/v1/status", "Processes, listeners and the certificate store", _one("Status"), _REFUSALS),
)


def _described(one: _Operation) -> dict[str, Any]:
    content = {"application/json": {"schema": one.answer}} if one.answer is not None else {"*/*": {"schema": {}}}
    responses: dict[str, Any] = {one.status: {"description": "The answer.", "content": content}}
    for status, description in one.refusals.items():
        responses[status] = {"description": description, "content": {MEDIA_TYPE: {"schema": _one("ProblemDetails")}}}
    operation: dict[str, Any] = {"summary": one.summary, "responses": responses}
    if one.parameters:
        operation["parameters"] = list(one.parameters)
    if one.body:
        body = {"required": True, "content": {"application/json": {"schema": _one(one.body)}}}
        operation["requestBody"] = body
    return operation


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for one in _OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _described(one)
    return paths


PATHS: dict[str, Any] = _paths()


def _document() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template=_SCHEMAS + "{name}")
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
