from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from admin.app import local_app
from admin.openapi import DOCUMENT
from tests.admin.asking import ask
from tests.admin.conftest import MakeView, Place

API: dict[str, Any] = json.loads(DOCUMENT)


@pytest.mark.parametrize("path", sorted(path for path, methods in API["paths"].items() if "get" in methods))
def test_every_described_path_answers_with_exactly_the_described_fields(
    place: Place, make_view: MakeView, path: str
) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    place.run("certs", "request", "mail.example.com")
    app = local_app(make_view(), Path(place.path))
    answer = ask(app, f"{path.replace('{fingerprint}', pair.fingerprint)}?host=www.example.com").json()
    schema = API["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    if "items" in schema:
        (answer, *_), schema = answer, schema["items"]
    schema = API["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert set(answer) == set(schema["properties"]) == set(schema["required"])


def test_every_endpoint_of_the_api_is_described(make_view: MakeView, place: Place) -> None:
    guard: Any = local_app(make_view(), place.path)
    served: dict[str, set[str]] = {}
    for route in guard._app.routes:
        if route.path.startswith("/api/v1/") and route.path != "/api/v1/openapi.json":
            served.setdefault(route.path, set()).update(route.methods - {"HEAD"})
    described = {path: {method.upper() for method in methods} for path, methods in API["paths"].items()}
    assert served == described


def test_every_reference_leads_somewhere() -> None:
    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    known = {f"#/components/schemas/{name}" for name in API["components"]["schemas"]}
    assert references(API) <= known


def test_the_document_itself_is_served(make_view: MakeView, place: Place) -> None:
    answer = ask(local_app(make_view(), place.path), "/api/v1/openapi.json")
    assert answer.json() == API
