"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

IMAGE = "tests/deploy/"  # whose tests share an image, which takes as long to build as they take

settings.register_profile("snigate", deadline=None)  # a machine may be slow for a while
settings.load_profile("snigate")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that the others run beside it."""
    items.sort(key=lambda item: item.get_closest_marker("begins_first") is None)


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """A file's tests go to one process, since they share what they have started; those of IMAGE do so too."""

    def _split_scope(self, nodeid: str) -> str:
        return IMAGE if nodeid.startswith(IMAGE) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """See Scheduling."""
    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: it shows nothing there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
