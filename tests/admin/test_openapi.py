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


@pytest.mark.parametrize("path", sorted(API["paths"]))
def test_every_described_path_answers_with_exactly_the_described_fields(
    place: Place, make_view: MakeView, path: str
) -> None:
    place.add(place.root.issue("www.example.com"), "www")
    app = local_app(make_view(), Path(place.path))
    answer = ask(app, f"{path}?host=www.example.com")
    content = API["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    schema = API["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    assert set(answer.json()) == set(schema["properties"]) == set(schema["required"])


def test_every_endpoint_of_the_api_is_described() -> None:
    assert set(API["paths"]) == {"/api/v1/certificates", "/api/v1/explain", "/api/v1/status"}


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
