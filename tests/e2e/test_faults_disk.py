"""The disk under the state directory is full: serving goes on, what cannot be written is said, and room heals all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.e2e.test_faults_processes import quiet
from tests.e2e.test_processes import WELCOME, pid_of
from tests.e2e.test_reload import reloaded
from tests.support.echo import EchoServer
from tests.support.load import Load
from tests.support.pki import put, self_signed
from tests.support.small_disk import small_disk
from tests.support.snigate import PROGRAM, Snigate, wait_for
from tests.support.standing import unchanged
from tests.support.tls_client import shown

NO_ROOM = "(No space left on device)"
REMEDY = "make room on that file system"


def command(snigate: Snigate, *words: str | Path) -> tuple[int, str]:
    """A command of snigate's: its exit status, and all it says, on one line."""
    done = subprocess.run([PROGRAM, *words, "--config", snigate.file], capture_output=True, timeout=30)
    return done.returncode, " ".join((done.stdout + done.stderr).decode().split())


def served(snigate: Snigate) -> float:
    return snigate.metric("snigate_connections_total", outcome="served")


def test_on_a_full_disk_reloads_serve_and_what_is_counted_is_told_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state") as disk, EchoServer() as backend, Snigate(tmp_path, quiet(backend)) as snigate:
        before = served(snigate)
        with unchanged(snigate), Load(snigate.port) as load:
            disk.fill()
            reloaded(snigate)
            load.more(100)
            assert load.losses == []
        assert served(snigate) - before < load.served
        complaint = f"metrics cannot be written to {snigate.state / 'metrics'} {NO_ROOM}: {REMEDY}"
        assert snigate.log.count(complaint) == 2, "each new worker says it once"
        disk.make_room()
        wait_for(lambda: served(snigate) - before >= load.served, "everything is counted")
        assert served(snigate) - before == load.served
        assert f"metrics are written to {snigate.state / 'metrics'} again" in snigate.log
        snigate.expect_new_workers()


def test_on_a_full_disk_whoever_is_killed_is_replaced(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state") as disk, EchoServer() as backend, Snigate(tmp_path, quiet(backend)) as snigate:
        with unchanged(snigate), Load(snigate.port) as load:
            disk.fill()
            for role in ("worker", "control", "keeper", "worker"):
                victim = pid_of(snigate, role)
                before = len(load.losses)
                since = time.time()
                os.kill(victim, signal.SIGKILL)
                until = time.time()
                disk.fill()  # what the dead one had is taken by somebody else
                load.more()
                wait_for(lambda one=role, gone=victim: pid_of(snigate, one) not in (0, gone), "the next one is there")
                assert load.lost_outside(since, until) == load.losses[:before]
        assert snigate.metric("snigate_worker_restarts_total") == 2
        disk.make_room()
        snigate.expect_new_workers()


def test_on_a_full_disk_changes_are_refused_with_what_to_do_and_certificates_from_elsewhere_are_served(
    tmp_path: Path,
) -> None:
    old, new = self_signed("a.example", not_after=3600), self_signed("a.example", not_after=7200)
    with (
        small_disk(tmp_path / "state") as disk,
        EchoServer() as backend,
        Snigate(tmp_path, quiet(backend)) as snigate,
        unchanged(snigate),
        Load(snigate.port) as load,
    ):
        assert command(snigate, "certs", "new", "own.example")[0] == 0
        put(snigate.certs / "a.pem", old.combined_pem)
        wait_for(lambda: shown(snigate.port, "a.example").fingerprint == old.fingerprint, "it is served")
        put(tmp_path / "new.pem", self_signed("b.example").combined_pem)
        files = sorted((snigate.state / "certs").iterdir())
        disk.fill()
        for words in (
            ("certs", "import", tmp_path / "new.pem"),
            ("certs", "new", "c.example"),
            ("certs", "renew", "own.example"),
            ("certs", "request", "d.example"),
            ("certs", "default", "a.example", "--yes"),
        ):
            status, said = command(snigate, *words)
            assert status == 1, said
            assert NO_ROOM in said
            assert REMEDY in said
            assert str(snigate.state) in said
        assert sorted((snigate.state / "certs").iterdir()) == files, "nothing is left half done"
        put(snigate.certs / "a.pem", new.combined_pem)
        wait_for(lambda: shown(snigate.port, "a.example").fingerprint == new.fingerprint, "it is swapped")
        disk.make_room()
        assert command(snigate, "certs", "import", tmp_path / "new.pem")[0] == 0
        load.more()
        assert load.losses == []


def test_on_a_full_disk_the_first_start_says_so_and_every_later_one_serves(tmp_path: Path) -> None:
    pair = self_signed("a.example")
    with small_disk(tmp_path / "state") as disk:
        site = Snigate(tmp_path, WELCOME)
        pair.write(site.certs)
        disk.fill()
        status, said = command(site, "serve")
        assert status == 1
        assert f"{site.state / 'token'} cannot be written {NO_ROOM}; {REMEDY}" in said
        disk.make_room()
        with site:
            default = shown(site.port).fingerprint
        disk.fill()
        with site:
            assert shown(site.port, "a.example").fingerprint == pair.fingerprint
            assert shown(site.port).fingerprint == default
            disk.make_room()
            site.expect_new_workers()
