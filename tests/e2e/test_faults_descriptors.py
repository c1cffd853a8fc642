"""Keeper and control have no file descriptors left: what they published serves on, and they go on when they have."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from tests.e2e.test_faults_watching import Site
from tests.e2e.test_processes import pid_of
from tests.support.echo import EchoServer
from tests.support.load import Load
from tests.support.snigate import wait_for
from tests.support.standing import unchanged
from tests.support.tls_client import shown

QUESTIONS = 8


def _lowest_free(pid: int) -> int:
    taken = {int(one) for one in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH208
    return next(number for number in count() if number not in taken)


@contextlib.contextmanager
def no_descriptor_left(pid: int) -> Iterator[None]:
    """A process can open nothing more: not even the descriptor that it uses now and again is below the limit."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lowest_free = min(_lowest_free(pid) for _ in range(200))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_without_descriptors_the_keeper_takes_nothing_away_and_goes_on_when_it_has_some(tmp_path: Path) -> None:
    with EchoServer() as backend:
        site = Site(tmp_path, backend, rescan="1s")
        site.old.write(site.snigate.certs / "live")
        with site.snigate as snigate, unchanged(snigate), site.load() as load, Load(snigate.port, "else") as others:
            keeper = pid_of(snigate, "keeper")
            default = shown(snigate.port, "else").fingerprint
            with no_descriptor_left(keeper):
                site.new.write(site.snigate.certs / "live")
                wait_for(lambda: f"{snigate.certs}: cannot be read (Too many open files)" in snigate.log, "it is said")
                load.more(100)
                assert shown(snigate.port, "else").fingerprint == default
            site.comes_to_serve(site.new)
            assert shown(snigate.port, "else").fingerprint == default
            assert pid_of(snigate, "keeper") == keeper
            assert load.losses == []
            assert others.losses == []


def test_without_descriptors_control_answers_later_and_traffic_does_not_notice(tmp_path: Path) -> None:
    with EchoServer() as backend:
        site = Site(tmp_path, backend)
        site.old.write(site.snigate.certs)
        with site.snigate as snigate, unchanged(snigate), site.load() as load, contextlib.ExitStack() as stack:
            control = pid_of(snigate, "control")
            with no_descriptor_left(control):
                asked = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", snigate.admin), timeout=10))
                    for _ in range(QUESTIONS)
                ]
                for one in asked:
                    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                wait_for(lambda: "no further connection can be accepted now" in snigate.log, "it is said")
                load.more()
            for one in asked:
                assert one.recv(12) == b"HTTP/1.1 200"
            assert pid_of(snigate, "control") == control
            assert snigate.log.count("no further connection can be accepted now") == 1
            assert load.losses == []
