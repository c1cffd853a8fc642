"""Certificates change in every way in which people and tools change them, under traffic.

While 50 connections a second arrive and others stay open, no handshake fails, nobody is shown a certificate that is
neither the old nor the new one, open connections are not touched, and every worker serves the new one within 2 s.
"""

from __future__ import annotations

import contextlib
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.echo import EchoServer
from tests.support.pki import DAY, Authority, Pair, certbot_lineage, put
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context, shown
from tests.support.traffic import Traffic

BOUND = 2.0  # seconds
OPEN = 6  # connections that stay open during a swap, each with a byte to echo before and after
LISTENER = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "127.0.0.1:%d"\n'

Pause = Callable[[], None]  # returns when snigate has looked at the directories and clients have come by


class Swap(NamedTuple):
    """A way to lay out a pair in a directory, and a way to replace it. `scanned`: the directory below to configure."""

    prepare: Callable[[Path, Pair], Any]
    replace: Callable[[Path, Pair, Pause], Any]
    scanned: str = ""


def link_over(link: Path, target: str) -> None:
    """Let a symbolic link point elsewhere in one step."""
    aside = link.with_name(f"{link.name}_tmp")
    aside.symlink_to(target)
    aside.rename(link)


def in_two_halves(path: Path, data: bytes, pause: Pause) -> None:
    """Overwrite a file in place, resting in the middle."""
    with path.open("wb", buffering=0) as file:
        file.write(data[: len(data) // 2])
        pause()
        file.write(data[len(data) // 2 :])


def renew_with_certbot(directory: Path, new: Pair, pause: Pause) -> None:
    certbot_lineage(directory, "site", new, version=2)


def mount(directory: Path, pair: Pair, version: str = "1") -> None:
    """As the kubelet lays out a secret."""
    pair.write(directory / f"..{version}")
    (directory / "..data").symlink_to(f"..{version}")
    for name in ("tls.crt", "tls.key"):
        (directory / name).symlink_to(Path("..data", name))


def remount(directory: Path, new: Pair, pause: Pause) -> None:
    new.write(directory / "..2")
    link_over(directory / "..data", "..2")
    shutil.rmtree(directory / "..1")


def rename_certificate_first(directory: Path, new: Pair, pause: Pause) -> None:
    put(directory / "tls.crt", new.fullchain_pem)
    pause()
    put(directory / "tls.key", new.key_pem)


def rename_key_first(directory: Path, new: Pair, pause: Pause) -> None:
    put(directory / "tls.key", new.key_pem)
    pause()
    put(directory / "tls.crt", new.fullchain_pem)


def overwrite_certificate_first(directory: Path, new: Pair, pause: Pause) -> None:
    in_two_halves(directory / "tls.crt", new.fullchain_pem, pause)
    pause()
    in_two_halves(directory / "tls.key", new.key_pem, pause)


def overwrite_key_first(directory: Path, new: Pair, pause: Pause) -> None:
    in_two_halves(directory / "tls.key", new.key_pem, pause)
    pause()
    in_two_halves(directory / "tls.crt", new.fullchain_pem, pause)


def combined(directory: Path, pair: Pair) -> None:
    (directory / "all.pem").write_bytes(pair.combined_pem)


def overwrite_combined(directory: Path, new: Pair, pause: Pause) -> None:
    in_two_halves(directory / "all.pem", new.combined_pem, pause)


def cut_combined_behind_its_key(directory: Path, new: Pair, pause: Pause) -> None:
    """The worst place to be interrupted at: what is there is whole, and is not all."""
    with (directory / "all.pem").open("wb", buffering=0) as file:
        file.write(new.key_pem)
        pause()
        file.write(new.fullchain_pem)


def recreate(directory: Path, new: Pair, pause: Pause) -> None:
    shutil.rmtree(directory)
    new.write(directory)


def recreate_late(directory: Path, new: Pair, pause: Pause) -> None:
    """Moved away as one, so that nothing in it was seen to be removed; made again when that was noticed."""
    directory.rename(directory.with_name("gone"))
    pause()
    new.write(directory)


def release(directory: Path, pair: Pair) -> None:
    pair.write(directory / "releases" / "1" / "tls")
    (directory / "current").symlink_to("releases/1")


def release_anew(directory: Path, new: Pair, pause: Pause) -> None:
    new.write(directory / "releases" / "2" / "tls")
    link_over(directory / "current", "releases/2")


SWAPS = {
    "certbot": Swap(lambda directory, pair: certbot_lineage(directory, "site", pair), renew_with_certbot, "live"),
    "kubernetes": Swap(mount, remount),
    "rename-certificate-first": Swap(lambda directory, pair: pair.write(directory), rename_certificate_first),
    "rename-key-first": Swap(lambda directory, pair: pair.write(directory), rename_key_first),
    "overwrite-certificate-first": Swap(lambda directory, pair: pair.write(directory), overwrite_certificate_first),
    "overwrite-key-first": Swap(lambda directory, pair: pair.write(directory), overwrite_key_first),
    "overwrite-combined": Swap(combined, overwrite_combined),
    "cut-combined": Swap(combined, cut_combined_behind_its_key),
    "recreate": Swap(lambda directory, pair: pair.write(directory), recreate),
    "recreate-late": Swap(lambda directory, pair: pair.write(directory), recreate_late),
    "link-above": Swap(release, release_anew, "current/tls"),
}


class Running(NamedTuple):
    """A snigate with a directory for each kind of swap; they are wiped by no one, so each is used once."""

    snigate: Snigate
    root: Authority
    issuing: Authority
    directories: dict[str, Path]
    first: dict[str, Pair]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers, a backend that echoes, and the old pair of every swap in place."""
    directory = tmp_path_factory.mktemp("swaps")
    root = Authority.make()
    issuing = Authority.make("Issuing", root)
    (directory / "root.pem").write_bytes(root.pem)
    directories, first = {}, {}
    for kind, swap in (SWAPS | {"broken": SWAPS["rename-key-first"]}).items():
        directories[kind] = directory / kind
        directories[kind].mkdir()
        first[kind] = issuing.issue(f"{kind}.example.com", not_after=30 * DAY)
        swap.prepare(directories[kind], first[kind])
    scanned = [str(directories[kind] / swap.scanned) for kind, swap in SWAPS.items()] + [str(directories["broken"])]
    certificates = f'[certificates]\ndirectories = {scanned!r}\ntrust = ["{directory / "root.pem"}"]\n\n'
    with (
        EchoServer() as backend,
        Snigate(directory, certificates + LISTENER % backend.port) as snigate,
    ):
        yield Running(snigate, root, issuing, directories, first)


@contextlib.contextmanager
def open_connections(running: Running, name: str) -> Iterator[list[ssl.SSLSocket]]:
    """Connections that stay open through the block and have to work at its end as they did at its beginning."""
    with contextlib.ExitStack() as stack:
        using = context(authority=running.root.pem.decode())
        opened = [stack.enter_context(connect(running.snigate.port, name, using=using)) for _ in range(OPEN)]
        for number, tls in enumerate(opened):
            echo(tls, b"before %d" % number)
        yield opened
        for number, tls in enumerate(opened):
            echo(tls, b"after %d" % number)


def echo(tls: ssl.SSLSocket, data: bytes) -> None:
    tls.sendall(data)
    received = b""
    while len(received) < len(data):
        received += tls.recv(100) or pytest.fail("an open connection was ended")
    assert received == data


def digests(snigate: Snigate) -> set[str]:
    """What the workers hold: one digest when all hold the same."""
    replicas = snigate.api("/api/v1/status")["replicas"]
    assert len(replicas) == 2
    return {one["digest"] for one in replicas}


def paused(snigate: Snigate, traffic: Traffic) -> None:
    """Wait until snigate has scanned since now, and clients have come by since then."""
    now = time.time()
    wait_for(lambda: snigate.metric("snigate_certstore_last_scan_timestamp_seconds") > now, "snigate scans")
    traffic.more(5)


@pytest.mark.parametrize("kind", SWAPS)
def test_a_certificate_is_replaced_without_anybody_noticing(running: Running, kind: str) -> None:
    snigate, name = running.snigate, f"{kind}.example.com"
    old, new = running.first[kind], running.issuing.issue(name, not_after=90 * DAY)
    before = digests(snigate)
    with open_connections(running, name), Traffic(snigate.port, name, running.root.pem) as traffic:
        assert traffic.seen == [old.fingerprint]
        SWAPS[kind].replace(running.directories[kind], new, lambda: paused(snigate, traffic))
        written = time.time()
        last_old = traffic.settles_on(new.fingerprint)
    assert not traffic.failures
    assert {visit.fingerprint for visit in traffic.visits} == {old.fingerprint, new.fingerprint}
    assert last_old < written + BOUND
    wait_for(lambda: len(digests(snigate)) == 1, "all workers hold the same")
    assert digests(snigate) != before
    fingerprints = {one["fingerprint"] for one in snigate.api("/api/v1/certificates")["certificates"]}
    assert new.fingerprint in fingerprints
    assert old.fingerprint not in fingerprints


def test_a_broken_file_changes_nothing_is_named_everywhere_and_heals_by_itself(running: Running) -> None:
    snigate, name, directory = running.snigate, "broken.example.com", running.directories["broken"]
    old, new = running.first["broken"], running.issuing.issue(name, not_after=90 * DAY)
    path = directory / "tls.crt"
    before = digests(snigate)

    def problems() -> dict[str, str]:
        return {one["path"]: one["reason"] for one in snigate.api("/api/v1/certificates")["problems"]}

    with open_connections(running, name), Traffic(snigate.port, name, running.root.pem) as traffic:
        path.write_bytes(old.fullchain_pem[:40] + b"!!!!" + old.fullchain_pem[44:])
        wait_for(lambda: problems() == {str(path): "malformed"}, "the API names the file")
        wait_for(
            lambda: snigate.metric("snigate_certificate_files_rejected", reason="malformed") == 1,
            "the metric counts it",
        )
        assert f"{path}: " in snigate.log
        traffic.more(20)
        assert traffic.seen == [old.fingerprint]
        assert digests(snigate) == before
        new.write(directory)
        written = time.time()
        last_old = traffic.settles_on(new.fingerprint)
    assert not traffic.failures
    assert last_old < written + BOUND
    wait_for(lambda: not problems(), "the API names it no more")
    assert snigate.metric("snigate_certificate_files_rejected") == 0
    assert snigate.log.count(f"{path}: is in order again") == 1
    assert snigate.log.count(f"{path}: ") == 2


def test_a_deleted_certificate_is_retired_after_a_second_and_its_name_gets_the_default(tmp_path: Path) -> None:
    root = Authority.make()
    with EchoServer() as backend:
        snigate = Snigate(tmp_path, LISTENER % backend.port)
        pair = root.issue("www.example.com")
        paths = pair.write(snigate.certs)
        with snigate:
            default = shown(snigate.port, "unknown.example.com").fingerprint
            with Traffic(snigate.port, "www.example.com") as traffic:
                for path in paths:
                    path.unlink()
                traffic.settles_on(default)
            assert not traffic.failures
            assert traffic.seen[0] == pair.fingerprint
            assert snigate.metric("snigate_certificates") == 0
