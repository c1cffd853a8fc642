"""What tells of changed files fails under load: nothing served is lost, and what changed is found all the same."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.test_faults_processes import quiet
from tests.e2e.test_processes import pid_of
from tests.support.echo import EchoServer
from tests.support.load import Load
from tests.support.pki import Authority, Pair
from tests.support.snigate import Snigate, wait_for
from tests.support.standing import unchanged
from tests.support.tls_client import shown

NAME = "www.example.com"
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
FEW_WATCHES = ("unshare", "-Ur", "sh", "-c", 'echo 3 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh")


class Site:
    """A snigate with a certificate that a root has issued, and the one that is to follow it."""

    def __init__(self, directory: Path, backend: EchoServer, rescan: str = "1h") -> None:
        self.root = Authority.make()
        (directory / "root.pem").write_bytes(self.root.pem)
        self.old = self.root.issue(NAME, not_after=86400)
        self.new = self.root.issue(NAME, not_after=86400 * 2)
        certificates = f'directories = ["{{certs}}"]\ntrust = ["{directory / "root.pem"}"]\nrescan = "{rescan}"\n'
        self.snigate = Snigate(directory, f"{quiet(backend)}[certificates]\n{certificates}")

    def load(self) -> Load:
        """Clients that insist on a certificate of the root's."""
        return Load(self.snigate.port, NAME, self.root.pem)

    def comes_to_serve(self, pair: Pair) -> None:
        """Wait until every worker does."""
        wait_for(
            lambda: all(shown(self.snigate.port, NAME).fingerprint == pair.fingerprint for _ in range(10)),
            "it is served",
        )


def flood(directory: Path, names: int) -> None:
    """Cause twice as many events as have room in a queue, of so many different names; nothing is left of them."""
    paths = [directory / f".{number}" for number in range(names)]
    at = paths[0]
    at.touch()
    for number in range(int(QUEUE.read_text())):  # each is two events
        at = at.rename(paths[number % names])
    at.unlink()


@pytest.mark.parametrize(("names", "rescan"), [(3000, "1h"), (2, "2s")])
def test_after_more_events_than_the_system_keeps_what_changed_is_found(tmp_path: Path, names: int, rescan: str) -> None:
    with EchoServer() as backend:
        site = Site(tmp_path, backend, rescan)
        certs = site.snigate.certs
        site.old.write(certs, "first")
        with site.snigate as snigate, unchanged(snigate), site.load() as load:
            keeper = pid_of(snigate, "keeper")
            os.kill(keeper, signal.SIGSTOP)
            try:
                flood(certs, names)
                site.new.write(certs, "second")
                load.more()
            finally:
                os.kill(keeper, signal.SIGCONT)
            site.comes_to_serve(site.new)
            load.more()
            assert load.losses == []


def test_without_watches_directories_are_polled_and_that_is_said(tmp_path: Path) -> None:
    with EchoServer() as backend:
        site = Site(tmp_path, backend)
        site.snigate.under = FEW_WATCHES
        for number in range(5):
            site.old.write(site.snigate.certs / f"directory{number}")
        with site.snigate as snigate, unchanged(snigate), site.load() as load:
            wait_for(lambda: "Raise fs.inotify.max_user_watches to get events back" in snigate.log, "it is said")
            site.new.write(site.snigate.certs / "directory0", "second")
            site.comes_to_serve(site.new)
            assert load.losses == []
            assert snigate.api("/api/v1/status")["store"]["watching"] is False


def renamed_away(certs: Path, fresh: Path) -> None:
    certs.rename(certs.with_name("before"))
    fresh.rename(certs)


def made_anew(certs: Path, fresh: Path) -> None:
    shutil.rmtree(certs)
    certs.mkdir()
    for path in fresh.iterdir():
        shutil.copy(path, certs)


def swapped_by_a_link(certs: Path, fresh: Path) -> None:
    link = certs.with_name("link")
    link.symlink_to(fresh)
    link.replace(certs)


@pytest.mark.parametrize("replace", [renamed_away, made_anew, swapped_by_a_link])
def test_a_directory_that_is_replaced_is_served_from_without_an_interruption(
    tmp_path: Path, replace: Callable[[Path, Path], None]
) -> None:
    with EchoServer() as backend:
        site = Site(tmp_path, backend)
        certs = site.snigate.certs
        if replace is swapped_by_a_link:
            certs.rename(tmp_path / "held")
            certs.symlink_to("held")
        site.old.write(certs)
        site.new.write(tmp_path / "fresh")
        with site.snigate as snigate, unchanged(snigate), site.load() as load:
            site.comes_to_serve(site.old)
            replace(certs, tmp_path / "fresh")
            site.comes_to_serve(site.new)
            newest = site.root.issue(NAME, not_after=86400 * 3)
            newest.write(certs, "later")
            site.comes_to_serve(newest)
            load.more()
            assert load.losses == []
