"""How a snigate stands: its processes and their open files, before something happens and after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.support.snigate import Snigate, open_files_of, wait_for


def standing(snigate: Snigate) -> dict[str, int]:
    """Open files of every process but the workers, which `Snigate.settled` looks at, and how many workers there are."""
    assert snigate.process is not None
    found = snigate.api("/api/v1/status")["processes"]
    files = {one["role"]: open_files_of(one["pid"]) for one in found if one["role"] != "worker"}
    return {**files, "supervisor": open_files_of(snigate.process.pid), "workers": len(found) - len(files)}


@contextlib.contextmanager
def unchanged(snigate: Snigate) -> Iterator[None]:
    """What happens in the block leaves no process, and no open file, that was not there before."""
    before = standing(snigate)
    yield
    now = before

    def is_back() -> bool:
        nonlocal now
        now = standing(snigate)
        return all(now[one] <= before[one] for one in before) and now["workers"] == before["workers"]

    try:
        wait_for(is_back, "all is as before")
    except AssertionError as error:
        raise AssertionError(f"before {before}, now {now}") from error
