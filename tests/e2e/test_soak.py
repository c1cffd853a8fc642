"""Two minutes of mixed traffic, with certificates swapped and configurations reloaded; `make soak` is the long form.

It runs beside the other tests, so nothing here is about time: latencies are only reported.
"""

from __future__ import annotations

import pytest

from tests.support.background import ENDING, SECONDS, Background


@pytest.mark.timeout(SECONDS + ENDING + 10)
def test_mixed_traffic_through_swaps_and_reloads_leaves_no_error_unexplained_and_nothing_behind(
    background: Background,
) -> None:
    status, said = background.finished()
    print(said)
    assert status == 0, said
