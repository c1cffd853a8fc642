from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from certstore.directory import DirectoryScanner
from certstore.errors import FileRejected, RejectReason
from certstore.file_reader import HEAD
from certstore.file_state import UNSETTLED, FileState
from certstore.load import MAX_FILE_SIZE, FileContent, parse_file
from certstore.scan import Scan
from certstore.slow_files import RETRY_SLOW, RETRY_SLOW_AT_MOST
from certstore.unlock import TIME_LIMIT, UnlockedFile
from tests.support.openssl import openssl
from tests.support.pki import Authority, Pair, certbot_lineage, self_signed


@pytest.fixture(scope="module")
def pair() -> Pair:
    return self_signed("www.example.com")


@pytest.fixture(scope="module")
def renewed() -> Pair:
    return self_signed("www.example.com")


def with_os(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    """Let certstore.file_reader, and nobody else, see other functions of the operating system."""
    monkeypatch.setattr("certstore.file_reader.os", SimpleNamespace(**(vars(os) | functions)))


def settle(*paths: Path) -> None:
    """Let files look as if they had been written a while ago."""
    for path in paths:
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10**9))


def leaves(scan: Scan, directory: Path) -> dict[str, list[str]]:
    """The fingerprints in each file, by path below `directory`."""
    return {
        str(Path(path).relative_to(directory)): [one.fingerprint for one in state.content.certificates]
        for path, state in scan.files.items()
        if state.content is not None
    }


def rejected(scan: Scan) -> dict[str, RejectReason]:
    """The reason for each rejected file, by its name."""
    return {Path(path).name: state.rejection.reason for path, state in scan.files.items() if state.rejection}


def test_directories_are_read_recursively_and_hidden_names_are_not_entered(tmp_path: Path, pair: Pair) -> None:
    pair.write(tmp_path / "a" / "b", "deep")
    pair.write(tmp_path, "top")
    pair.write(tmp_path / ".hidden", "not")
    (tmp_path / ".dot.pem").write_bytes(pair.combined_pem)
    scan = DirectoryScanner([tmp_path]).scan()
    one = [pair.fingerprint]
    assert leaves(scan, tmp_path) == {"top.crt": one, "top.key": [], "a/b/deep.crt": one, "a/b/deep.key": []}
    assert not scan.unreadable
    assert not scan.unseen


def test_a_directory_reached_twice_is_entered_once_and_a_loop_ends(tmp_path: Path, pair: Pair) -> None:
    pair.write(tmp_path / "real")
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    scan = DirectoryScanner([tmp_path, tmp_path / "real"]).scan()
    assert sorted(leaves(scan, tmp_path)) in (["again/tls.crt", "again/tls.key"], ["real/tls.crt", "real/tls.key"])


def test_certbots_links_are_read_under_their_own_names(tmp_path: Path) -> None:
    pair = Authority.make("Issuing", Authority.make()).issue("www.example.com")
    live = certbot_lineage(tmp_path, "www.example.com", pair)
    scan = DirectoryScanner([tmp_path / "live"]).scan()
    found = leaves(scan, live)
    assert found.keys() == {"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"}
    assert found["fullchain.pem"] == found["cert.pem"] + found["chain.pem"]
    assert found["cert.pem"] == [pair.fingerprint]
    assert not rejected(scan)


def test_a_kubernetes_mount_is_read_through_its_links_and_not_through_its_hidden_directory(
    tmp_path: Path, pair: Pair
) -> None:
    pair.write(tmp_path / "..2024_01")
    (tmp_path / "..data").symlink_to("..2024_01")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(Path("..data", name))
    assert leaves(DirectoryScanner([tmp_path]).scan(), tmp_path) == {"tls.crt": [pair.fingerprint], "tls.key": []}


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(tmp_path: Path, pair: Pair, renewed: Pair) -> None:
    certificate, key = pair.write(tmp_path)
    settle(certificate, key)
    scanner = DirectoryScanner([tmp_path])
    before = scanner.scan().files
    assert {path: state for path, state in scanner.scan().files.items() if state is not before[path]} == {}
    renewed.write(tmp_path)
    after = scanner.scan().files
    assert all(after[str(path)] is not before[str(path)] for path in (certificate, key))
    assert leaves(scanner.scan(), tmp_path)["tls.crt"] == [renewed.fingerprint]


def test_a_file_written_a_moment_ago_is_read_again_although_its_signature_is_the_same(
    tmp_path: Path, pair: Pair, renewed: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tls.crt"
    path.write_bytes(pair.certificate_pem)
    status = path.stat()
    monkeypatch.setattr("certstore.file_reader.time.time_ns", lambda: status.st_mtime_ns + 1)
    scanner = DirectoryScanner([tmp_path])
    assert scanner.scan().files[str(path)].signature == UNSETTLED
    path.write_bytes(renewed.certificate_pem.ljust(len(pair.certificate_pem), b"\n"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert leaves(scanner.scan(), tmp_path) == {"tls.crt": [renewed.fingerprint]}


def test_one_certificate_in_many_files_is_held_once(tmp_path: Path, pair: Pair) -> None:
    for number in range(3):
        (tmp_path / f"{number}.pem").write_bytes(pair.certificate_pem)
    files = DirectoryScanner([tmp_path]).scan().files
    assert len({id(state.content.certificates[0]) for state in files.values() if state.content}) == 1


def test_files_that_are_none_of_ours_are_left_out_and_those_that_claim_to_be_are_told(
    tmp_path: Path, pair: Pair
) -> None:
    (tmp_path / "README").write_text("nothing to see here")
    (tmp_path / "notes.txt").write_bytes(b"\0\1\2" * 100)
    (tmp_path / "combined").write_bytes(pair.combined_pem)
    (tmp_path / "empty.crt").write_bytes(b"")
    (tmp_path / "text.pem").write_text("nothing to see here")
    (tmp_path / "half").write_bytes(pair.certificate_pem[:100])
    (tmp_path / "big.pem").write_bytes(b"x" * (MAX_FILE_SIZE + 1))
    scanner = DirectoryScanner([tmp_path])
    for _ in range(2):
        scan = scanner.scan()
        assert leaves(scan, tmp_path) == {"combined": [pair.fingerprint]}
        assert rejected(scan) == {
            "empty.crt": RejectReason.TRUNCATED,
            "text.pem": RejectReason.MALFORMED,
            "half": RejectReason.TRUNCATED,
            "big.pem": RejectReason.OVERSIZED,
        }


def test_what_is_no_regular_file_is_told_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pem")
    (tmp_path / "device.pem").symlink_to("/dev/zero")
    (tmp_path / "dangling.pem").symlink_to("nowhere")
    (tmp_path / "loop.pem").symlink_to("loop.pem")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket.pem"))
        scan = DirectoryScanner([tmp_path]).scan()
    assert rejected(scan) == {
        "fifo.pem": RejectReason.NOT_A_FILE,
        "device.pem": RejectReason.NOT_A_FILE,
        "socket.pem": RejectReason.NOT_A_FILE,
        "dangling.pem": RejectReason.UNREADABLE,
        "loop.pem": RejectReason.UNREADABLE,
    }


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.pem")
    (tmp_path / "device.pem").symlink_to("/dev/zero")
    with_os(monkeypatch, open=lambda path, *_: pytest.fail(f"{path} was opened"))
    scanner = DirectoryScanner([tmp_path])
    for scan in (scanner.scan(), scanner.scan()):
        assert set(rejected(scan).values()) == {RejectReason.NOT_A_FILE}


def test_a_file_that_vanishes_between_the_listing_and_the_look_is_gone_and_no_problem(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = pair.write(tmp_path)
    gone = {str(key): key}

    def vanishing(look: Callable[..., object]) -> Callable[..., object]:
        def after(path: str, *arguments: object) -> object:
            if path in gone:
                gone.pop(path).unlink()
            return look(path, *arguments)

        return after

    with_os(monkeypatch, stat=vanishing(os.stat), open=vanishing(os.open))
    scanner = DirectoryScanner([tmp_path])
    for scan in (scanner.scan(), scanner.scan()):
        assert list(scan.files) == [str(certificate)]
        assert not rejected(scan)
        gone[str(certificate.with_suffix(".pem"))] = certificate.with_suffix(".pem")
        certificate.with_suffix(".pem").write_bytes(pair.certificate_pem)


def test_a_missing_directory_is_told_and_its_files_count_as_last_seen(tmp_path: Path, pair: Pair) -> None:
    root = tmp_path / "certificates"
    paths = {str(path) for path in pair.write(root)}
    scanner = DirectoryScanner([root, tmp_path / "never"])
    assert scanner.scan().unreadable == ((str(tmp_path / "never"), errno.ENOENT),)
    root.rename(tmp_path / "moved")
    scan = scanner.scan()
    assert [path for path, _ in scan.unreadable] == [str(root), str(tmp_path / "never")]
    assert set(scan.files) == scan.unseen == paths
    (tmp_path / "moved").rename(root)
    back = scanner.scan()
    assert set(back.files) == paths
    assert not back.unseen


def test_an_unreadable_directory_below_keeps_its_files_and_not_those_of_its_neighbours(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, neighbour = tmp_path / "closed", tmp_path / "closed-not"
    kept = {str(path) for path in pair.write(closed / "deep")}
    pair.write(neighbour)
    scanner = DirectoryScanner([tmp_path])
    scanner.scan()
    for path in neighbour.iterdir():
        path.unlink()

    def refuse(path: str) -> object:
        if path == str(closed):
            raise PermissionError(13, "Permission denied")
        return os.scandir(path)

    monkeypatch.setattr("certstore.walk.os", SimpleNamespace(**(vars(os) | {"scandir": refuse})))
    scan = scanner.scan()
    assert scan.unreadable == ((str(closed), errno.EACCES),)
    assert set(scan.files) == scan.unseen == kept


def test_a_file_that_cannot_be_read_is_tried_again_at_each_scan(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tls.pem"
    path.write_bytes(pair.combined_pem)
    settle(path)
    scanner = DirectoryScanner([tmp_path])

    def refuse(_path: str, _flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        with_os(patched, open=refuse)
        state = scanner.scan().files[str(path)]
        assert state.rejection is not None
        assert state.rejection.message == "cannot be read (Permission denied): let the user snigate runs as read it"
    assert leaves(scanner.scan(), tmp_path) == {"tls.pem": [pair.fingerprint]}


def test_a_protected_key_is_tried_again_when_the_passphrases_change(tmp_path: Path, pair: Pair) -> None:
    path = tmp_path / "tls.p12"
    path.write_bytes(pair.p12(b"secret"))
    settle(path)
    passphrases: list[bytes] = []
    scanner = DirectoryScanner([tmp_path], lambda: passphrases)
    assert rejected(scanner.scan()) == {"tls.p12": RejectReason.PASSPHRASE_NEEDED}
    passphrases.append(b"secret")
    assert leaves(scanner.scan(), tmp_path) == {"tls.p12": [pair.fingerprint]}


def test_many_files_are_read_by_several_processes_and_come_out_the_same(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        settle(*pair.write(tmp_path / str(number), f"pair{number}"))
        broken, foreign = tmp_path / f"broken{number}.pem", tmp_path / f"README{number}"
        broken.write_text("-----BEGIN CERTIFICATE-----")
        foreign.write_text("nothing to see here")
        settle(broken, foreign)
    alone = DirectoryScanner([tmp_path]).scan()
    monkeypatch.setattr("certstore.spread.WORTH_IT", 2)
    monkeypatch.setattr(
        "certstore.spread.os", SimpleNamespace(**(vars(os) | {"sched_getaffinity": lambda _: {0, 1, 2}}))
    )
    scanner = DirectoryScanner([tmp_path])
    together = scanner.scan()
    assert together == alone
    assert (
        len({id(one) for state in together.files.values() if state.content for one in state.content.certificates}) == 1
    )
    again = scanner.scan()
    assert all(again.files[path] is state for path, state in together.files.items())


def test_a_file_dated_in_the_future_is_not_read_again_and_again(tmp_path: Path, pair: Pair) -> None:
    paths = pair.write(tmp_path)
    for path in paths:
        os.utime(path, (4e9, 4e9))
    scanner = DirectoryScanner([tmp_path])
    before = scanner.scan().files
    assert all(state is before[path] for path, state in scanner.scan().files.items())


def test_of_a_file_that_does_not_begin_like_one_of_ours_only_the_beginning_is_read(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "film"
    foreign.write_bytes(b"RIFF" + bytes(4 * MAX_FILE_SIZE))
    (tmp_path / "text").write_bytes(openssl("x509", "-text", data=pair.certificate_pem) + b"\n" * HEAD)
    (tmp_path / "late").write_bytes(b"remarks\n" * HEAD + pair.certificate_pem)
    (tmp_path / "late.crt").write_bytes(b"remarks\n" * HEAD + pair.certificate_pem)
    read = 0

    def count(descriptor: int, size: int) -> bytes:
        nonlocal read
        data = os.read(descriptor, size)
        read += len(data)
        return data

    with_os(monkeypatch, read=count)
    scan = DirectoryScanner([tmp_path]).scan()
    assert set(leaves(scan, tmp_path)) == {"text", "late.crt"}
    assert not rejected(scan)
    assert read < MAX_FILE_SIZE


class Slow:
    """Stands in for unlock: notes which files it was given; each takes a share of the limit (more: it hits it)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
        self.now = 1000.0
        self.share = share
        self.limits: list[float] = []
        monkeypatch.setattr("certstore.unlock.unlock", self)
        monkeypatch.setattr("certstore.unlock.time.monotonic", lambda: self.now)

    def __call__(self, data: bytes, passphrases: object, timeout: float) -> UnlockedFile:
        took = self.share * TIME_LIMIT
        self.limits.append(timeout)
        self.now += min(took, timeout)
        if took >= timeout:
            raise FileRejected(RejectReason.UNLOCK_TIMEOUT, "takes too long")
        return UnlockedFile((), ())


def pkcs12_files(directory: Path, pair: Pair, *names: str) -> None:
    for name in names:
        (directory / name).write_bytes(pair.p12(b"x"))
        settle(directory / name)


def test_one_scan_decrypts_for_a_limited_time_and_the_next_goes_on_where_it_ended(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pkcs12_files(tmp_path, pair, "a.p12", "b.p12", "c.p12", "d.p12")
    Slow(monkeypatch, 0.5)
    scanner = DirectoryScanner([tmp_path])
    scan = scanner.scan(TIME_LIMIT)
    assert rejected(scan) == dict.fromkeys(("b.p12", "c.p12", "d.p12"), RejectReason.UNLOCK_PENDING)
    assert scan.pending
    pkcs12_files(tmp_path, pair, "A.p12")
    scan = scanner.scan(2 * TIME_LIMIT)
    assert rejected(scan) == {"A.p12": RejectReason.UNLOCK_PENDING}
    scan = scanner.scan(2 * TIME_LIMIT)
    assert not rejected(scan)
    assert not scan.pending


def test_a_file_that_takes_too_long_to_decrypt_is_left_alone_ever_longer(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pkcs12_files(tmp_path, pair, "a.p12")
    slow = Slow(monkeypatch, 2)
    passphrases = [b"x"]
    scanner = DirectoryScanner([tmp_path], lambda: passphrases)
    tried = []
    for _ in range(1000):
        before = len(slow.limits)
        assert rejected(scanner.scan()) == {"a.p12": RejectReason.UNLOCK_TIMEOUT}
        if len(slow.limits) > before:
            tried.append(slow.now)
        slow.now += 10
    waits = [round(later - earlier, -1) for earlier, later in pairwise(tried)]
    assert waits[:3] == [RETRY_SLOW, 2 * RETRY_SLOW, 4 * RETRY_SLOW]
    assert max(waits) <= RETRY_SLOW_AT_MOST + 20
    passphrases.append(b"y")
    before = len(slow.limits)
    scanner.scan()
    assert len(slow.limits) == before + 1
    pkcs12_files(tmp_path, pair, "a.p12")
    scanner.scan()
    assert len(slow.limits) == before + 2


def test_a_file_cut_short_of_its_time_is_tried_again_and_is_not_called_slow(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pkcs12_files(tmp_path, pair, "a.p12")
    Slow(monkeypatch, 0.9)
    scanner = DirectoryScanner([tmp_path])
    assert rejected(scanner.scan(0.5 * TIME_LIMIT)) == {"a.p12": RejectReason.UNLOCK_PENDING}
    assert not rejected(scanner.scan(2 * TIME_LIMIT))


class Panic(BaseException):
    """As cryptography's Rust code raises it: no Exception."""


def test_a_panic_in_a_library_costs_the_file_and_nothing_else(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.write(tmp_path)
    (tmp_path / "evil.pem").write_bytes(b"-----BEGIN CERTIFICATE-----")

    def parse(data: bytes, *others: object) -> FileContent:
        if len(data) < 100:
            raise Panic
        return parse_file(data)

    monkeypatch.setattr("certstore.file_reader.parse_file", parse)
    scan = DirectoryScanner([tmp_path]).scan()
    assert rejected(scan) == {"evil.pem": RejectReason.MALFORMED}
    assert leaves(scan, tmp_path) == {"tls.crt": [pair.fingerprint], "tls.key": []}


def test_exactly_one_of_content_and_rejection_is_set(tmp_path: Path, pair: Pair) -> None:
    pair.write(tmp_path)
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----")
    states: list[FileState] = list(DirectoryScanner([tmp_path]).scan().files.values())
    assert [(one.content is None) is (one.rejection is not None) for one in states] == [True] * 3


def test_a_directory_that_is_a_file_is_told_apart_from_one_below_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("")
    found = DirectoryScanner([file, file / "below"]).scan().unreadable
    assert found == ((str(file), errno.ENOTDIR), (str(file / "below"), errno.ENOENT))


def damaged(pair: Pair) -> bytes:
    """A P-256 key whose number is not the one of the public key that is stored with it."""
    number = pair.key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]  # it is P-256
    return pair.key_der.replace(number, bytes(31) + b"\x07")


@pytest.mark.parametrize("events", [None, frozenset[str]()])
def test_at_a_start_with_many_files_keys_are_proved_by_the_scans_that_follow(
    tmp_path: Path, pair: Pair, renewed: Pair, events: frozenset[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certstore.directory.WORTH_IT", 2)
    monkeypatch.setattr("certstore.proofs.AT_ONCE", 2)
    pair.write(tmp_path, "good")
    (tmp_path / "bad.key").write_bytes(damaged(renewed))
    (tmp_path / "more.key").write_bytes(renewed.key_der)
    settle(*tmp_path.iterdir())
    scanner = DirectoryScanner([tmp_path])
    first = scanner.scan()
    assert first.pending
    assert rejected(first) == {}
    second = scanner.scan(events=events)
    assert second.pending
    assert rejected(second) == {"bad.key": RejectReason.MALFORMED}
    assert second.touched == frozenset({str(tmp_path / "bad.key")})
    third = scanner.scan(events=events)
    assert not third.pending
    assert (rejected(third), third.touched) == (rejected(second), frozenset())


def test_few_files_are_proved_at_once(tmp_path: Path, pair: Pair, renewed: Pair) -> None:
    pair.write(tmp_path, "good")
    (tmp_path / "bad.key").write_bytes(damaged(renewed))
    settle(*tmp_path.iterdir())
    scan = DirectoryScanner([tmp_path]).scan()
    assert not scan.pending
    assert rejected(scan) == {"bad.key": RejectReason.MALFORMED}
