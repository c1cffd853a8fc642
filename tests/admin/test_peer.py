from __future__ import annotations

import os
import socket

import pytest

from admin.peer import UNKNOWN, owner_of


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_has_the_other_end_on_this_machine_is_known_while_it_is_open(
    family: socket.AddressFamily, host: str
) -> None:
    with socket.create_server((host, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        accepted, peer = server.accept()
        with accepted:
            here = accepted.getsockname()[:2]
            assert owner_of(peer[:2], here) == f"uid {os.getuid()}"
            assert owner_of((peer[0], peer[1] + 1), here) == UNKNOWN
            client.close()
            assert owner_of(peer[:2], here) == UNKNOWN, "the kernel has given it to root"


def test_an_address_of_another_machine_stands_for_itself() -> None:
    assert owner_of(("192.0.2.1", 1), ("192.0.2.2", 2)) == "192.0.2.1"
