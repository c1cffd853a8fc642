"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support.background import Background, is_soak

settings.register_profile("snigate", deadline=None)  # a machine may be slow for a while
settings.load_profile("snigate")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The soak is judged last."""
    items.sort(key=is_soak)


def pytest_collection_finish(session: pytest.Session) -> None:
    """It begins now, where it is among the tests, and goes on beside the others."""
    if any(map(is_soak, session.items)) and not session.config.option.collectonly:
        session.config.stash[Background.KEY] = Background()


@pytest.fixture
def background(request: pytest.FixtureRequest) -> Background:
    """The soak that was begun when the tests were."""
    return request.config.stash[Background.KEY]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The soak is not left behind; and in CI a skipped test is a failure: it shows nothing there."""
    soak = session.config.stash.get(Background.KEY, None)
    if soak is not None:
        soak.stop()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
