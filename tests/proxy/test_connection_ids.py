from __future__ import annotations

from itertools import islice

from proxy.connection_ids import connection_ids


def test_no_two_connections_of_any_two_workers_have_one_id() -> None:
    found = [one for _ in range(3) for one in islice(connection_ids(), 1000)]
    assert len(set(found)) == 3000
    assert all(len(one) <= 33 and one.isascii() and one.isprintable() and " " not in one for one in found)
