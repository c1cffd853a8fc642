"""Whatever is asked of the API, as its own description has it or not: no 500, and nothing changes without the token."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from admin.app import admin_app
from admin.guard import own_names
from admin.openapi import PATHS
from admin.view import View
from certstore.messages import Change
from certstore.replica import Replica
from config.model import Config

TOKEN = "a-token-for-the-fuzz-test"
HOST = "127.0.0.1:9180"
RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Site:
    """An application over a state directory that a test may change, with nothing behind it."""

    def __init__(self) -> None:
        self.state: Path | None = None
        self.app: Any = None

    def begin(self, directory: Path) -> None:
        """In an empty place."""
        shutil.rmtree(directory, ignore_errors=True)
        (directory / "metrics").mkdir(parents=True)
        self.state = directory / "state"
        config = Config.defaults(directory)
        server = config.server.model_copy(update={"state_directory": self.state})
        certificates = config.certificates.model_copy(update={"trust": ()})
        config = config.model_copy(update={"server": server, "certificates": certificates})
        replica = Replica()
        asyncio.run(replica.take_in(Change(1, True, True, [], [], None, None)))
        view = View(config, replica, {}, {"admin": "127.0.0.1:9180"}, time.time())
        self.app = admin_app(view, directory / "metrics", own_names(None), TOKEN, "a safe place")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def files(self) -> set[str]:
        """Everything there is."""
        assert self.state is not None
        return {str(path) for path in self.state.rglob("*")}


SITE = Site()


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> None:
    SITE.begin(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def schema(place: None) -> Any:
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", SITE, headers={"host": HOST})


OPERATIONS = pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, methods in PATHS.items() for method in methods]
)


@OPERATIONS
@RELAXED
@given(data=st.data())
def test_nothing_that_is_asked_is_answered_with_a_failure(
    schema: Any, path: str, method: str, data: st.DataObject
) -> None:
    case = data.draw(
        schema[path][method.upper()].as_strategy(generation_mode=data.draw(st.sampled_from(GenerationMode)))
    )
    answer = case.call(headers={"authorization": f"Bearer {TOKEN}", "host": HOST})
    assert answer.status_code < 500, answer.text


@OPERATIONS
@RELAXED
@given(data=st.data())
def test_nothing_is_changed_or_told_without_the_token(schema: Any, path: str, method: str, data: st.DataObject) -> None:
    before = SITE.files()
    answer = data.draw(schema[path][method.upper()].as_strategy()).call(
        headers={"authorization": "Bearer x", "host": HOST}
    )
    assert answer.status_code in (401, 404, 405, 411, 413), answer.text
    assert SITE.files() == before


def test_bodies_as_described_are_taken(schema: Any) -> None:
    """Or the two above would show little."""
    case = schema["/api/v1/certificates"]["POST"].Case(
        body={"names": ["www.example.com"]}, media_type="application/json"
    )
    answer = case.call(headers={"authorization": f"Bearer {TOKEN}", "host": HOST})
    assert answer.status_code == 201, answer.text
    assert any(one.endswith(".pem") for one in SITE.files())
