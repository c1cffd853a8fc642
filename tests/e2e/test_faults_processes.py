"""Processes are killed and told to stop under load: who loses what, and nobody more than that."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from tests.e2e.test_processes import echoed, echoing, pid_of
from tests.e2e.test_reload import change, is_cut, pids
from tests.support.echo import EchoServer
from tests.support.load import CLIENTS, Load
from tests.support.snigate import Snigate, wait_for
from tests.support.standing import unchanged
from tests.support.tls_client import TIMEOUT, connect

REFUSED = "ConnectionRefusedError(111, 'Connection refused')"


def are_of_the_stop(load: Load) -> bool:
    """Whether all lost were refused, but for those that connected between the last accept and the socket's close."""
    others = [one for one in load.losses if one.what != REFUSED]
    return len(others) <= CLIENTS and all("ConnectionResetError" in one.what for one in others)


def is_reset(tls: ssl.SSLSocket) -> bool:
    """Wait for a connection's end, below TLS: Python's makes no difference there."""
    with socket.socket(fileno=os.dup(tls.fileno())) as raw:
        raw.settimeout(TIMEOUT)
        try:
            raw.recv(1)
        except ConnectionResetError:
            return True
    return False


def quiet(backend: EchoServer) -> str:
    """A listener without an access log: there is much to be served."""
    return f"{echoing(backend)}[log]\naccess = false\n"


def test_with_a_killed_worker_only_what_it_had_accepted_is_lost(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, quiet(backend)) as snigate:
        with unchanged(snigate), Load(snigate.port) as load:
            for number in (0, 1, 0):
                victim = pid_of(snigate, "worker", number)
                before = len(load.losses)
                since = time.time()
                os.kill(victim, signal.SIGKILL)
                until = time.time()
                load.more()
                assert load.lost_outside(since, until) == load.losses[:before]
                assert len(load.losses) - before <= CLIENTS
                wait_for(
                    lambda place=number, gone=victim: pid_of(snigate, "worker", place) not in (0, gone), "the next one"
                )
            load.more()
        assert snigate.metric("snigate_worker_restarts_total") == 3
        snigate.expect_new_workers()


@pytest.mark.parametrize("role", ["keeper", "control"])
def test_with_a_killed_keeper_or_control_nothing_is_lost(tmp_path: Path, role: str) -> None:
    with EchoServer() as backend, Snigate(tmp_path, quiet(backend)) as snigate:
        with unchanged(snigate), Load(snigate.port) as load:
            for _ in range(3):
                victim = pid_of(snigate, role)
                os.kill(victim, signal.SIGKILL)
                load.more()
                wait_for(lambda gone=victim: pid_of(snigate, role) not in (0, gone), "it is replaced")
            load.more()
            assert load.losses == []
        wait_for(lambda: len(snigate.api("/api/v1/status")["replicas"]) == 2, "workers follow the keeper")
        assert snigate.metric("snigate_worker_restarts_total") == 0


def test_with_a_killed_supervisor_all_ends_at_once_and_a_start_at_once_serves_again(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, quiet(backend)) as snigate, Load(snigate.port) as load:
        assert snigate.process is not None
        with connect(snigate.port) as tls:
            assert echoed(tls, b"before") == b"before"
            since = time.time()
            snigate.process.kill()
            snigate.process.wait()
            assert is_cut(tls)
        snigate.process = snigate.launch()
        wait_for(lambda: snigate.get("/readyz", token=False)[0] == 200, "it serves")
        until = time.time()
        load.more()
        assert load.losses
        assert load.lost_outside(since, until) == []


def test_a_stop_under_load_loses_nothing_that_was_accepted_and_a_second_one_cuts_what_is_open(tmp_path: Path) -> None:
    with EchoServer() as backend:
        site = Snigate(tmp_path, quiet(backend))
        site.file.write_text(site.file.read_text().replace('drain = "3s"', 'drain = "1h"'))
        with site, connect(site.port) as tls, Load(site.port) as load:
            assert echoed(tls, b"before") == b"before"
            assert site.process is not None
            site.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "stopping: no new connections" in site.log, "it drains")
            wait_for(lambda: len(load.losses) > CLIENTS, "new connections are refused")
            assert are_of_the_stop(load)
            assert echoed(tls, b"still") == b"still"
            wait_for(lambda: site.get("/readyz", token=False)[0] == 503, "control still answers")
            time.sleep(1.1)  # several signals within a second are one
            site.process.send_signal(signal.SIGTERM)
            assert is_reset(tls)
            assert site.process.wait(20) == 0
        assert "told to stop again: open connections are cut" in site.log


def test_a_stop_while_an_old_generation_drains_waits_for_both_and_cuts_both_at_the_end(tmp_path: Path) -> None:
    with EchoServer() as backend:
        site = Snigate(tmp_path, quiet(backend))
        site.file.write_text(site.file.read_text().replace('drain = "3s"', 'drain = "4s"'))
        with site, connect(site.port) as old, connect(site.port) as older:
            for tls in (old, older):
                assert echoed(tls, b"before") == b"before"
            assert site.reload()[0] == 0
            with connect(site.port) as new, Load(site.port) as load:
                assert echoed(new, b"before") == b"before"
                assert site.process is not None
                site.process.send_signal(signal.SIGTERM)
                wait_for(lambda: len(load.losses) > CLIENTS, "new connections are refused")
                assert are_of_the_stop(load)
                for tls in (old, new):
                    assert echoed(tls, b"still") == b"still"
                old.unwrap()
                assert is_reset(older)
                assert is_reset(new)
                assert site.process.wait(20) == 0


BAD = (
    ("[server]", "= broken\n[server]", "is not valid TOML"),
    ("workers = 2", "workers = -2", "server.workers"),
    ('bind = ["127.0.0.1:', 'bind = ["203.0.113.1:1443", "127.0.0.1:', "cannot bind 203.0.113.1:1443"),
    (
        "[log]",
        '[[listeners.routes]]\nhosts = ["a.example"]\nclient_auth = "required"\nclient_ca = "gone.pem"\n[log]',
        "gone.pem",
    ),
)


def test_bad_configurations_under_load_lose_nothing_and_each_says_why(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, quiet(backend)) as snigate:
        before = pids(snigate)
        assert snigate.process is not None
        with unchanged(snigate), Load(snigate.port) as load:
            for old, new, sentence in BAD:
                change(snigate, old, new)
                snigate.process.send_signal(signal.SIGHUP)
                wait_for(lambda why=sentence: why in snigate.log, f"it is said: {sentence}")
                load.more()
                change(snigate, new, old)
            assert load.losses == []
        assert snigate.log.count("reload refused, everything stays as it is") == len(BAD)
        assert snigate.metric("snigate_config_reloads_total", result="rejected") == len(BAD)
        assert pids(snigate) == before
