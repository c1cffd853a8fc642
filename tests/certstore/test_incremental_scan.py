"""Scans of what events name: after any changes, they find what a scan of everything finds."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certstore.catalogue import Catalogue, Settings, Snapshot
from certstore.directory import DirectoryScanner
from certstore.scan import Scan
from tests.support.pki import Authority, self_signed

AUTHORITY = Authority.make()
NOW = time.time()
PAIRS = [AUTHORITY.issue("www.example.com"), self_signed("mail.example.com")]
CONTENTS = [
    b"",
    b"no certificate\n",
    b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    AUTHORITY.pem,
    *(pair.combined_pem for pair in PAIRS),
    *(pair.certificate_pem for pair in PAIRS),
    *(pair.key_pem for pair in PAIRS),
]
DIRECTORIES = ["", "a", "a/b", "c", "..2024", ".hidden"]
FILES = ["one.pem", "two.pem", "README"]
LINKS = ["link.pem", "..data", "linked"]

paths = st.builds(os.path.join, st.sampled_from(DIRECTORIES), st.sampled_from(FILES))
links = st.builds(os.path.join, st.sampled_from(DIRECTORIES), st.sampled_from(LINKS))
anything = paths | links | st.sampled_from(DIRECTORIES[1:])
Change = Callable[[Path], set[Path]]  # makes a change below a directory; where the system tells of one


def writing(name: str, content: bytes) -> Change:
    def change(root: Path) -> set[Path]:
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            return below(root, path)
        return {Path(os.path.realpath(path)), *below(root, path)}

    return change


def renaming(source: str, target: str) -> Change:
    def change(root: Path) -> set[Path]:
        old, new = root / source, root / target
        events = {entry(old), entry(new)}
        try:
            old.rename(new)
        except OSError:
            return set()
        return events

    return change


def removing(name: str) -> Change:
    def change(root: Path) -> set[Path]:
        path = root / name
        events = {entry(path)}
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:
            return set()
        return events

    return change


def linking(name: str, target: str) -> Change:
    """A link is put in place as Kubernetes and certbot do it: made aside, then renamed."""

    def change(root: Path) -> set[Path]:
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return below(root, path)
        aside = path.with_name(".aside")
        aside.unlink(missing_ok=True)
        aside.symlink_to(os.path.relpath(root / target, path.parent))
        try:
            aside.rename(path)
        except OSError:
            aside.unlink()
        return {entry(aside), entry(path), *below(root, path)}

    return change


def entry(path: Path) -> Path:
    """Where the system tells of a directory's entry: links above it are followed, it is not."""
    return Path(os.path.realpath(path.parent)) / path.name


def below(root: Path, path: Path) -> set[Path]:
    """The directories that may have been made on the way to a path."""
    return {entry(one) for one in path.parents if root in one.parents}


changes = st.lists(
    st.one_of(
        st.builds(writing, paths, st.sampled_from(CONTENTS)),
        st.builds(linking, links, anything),
        st.builds(renaming, anything, anything),
        st.builds(removing, anything),
    ),
    min_size=1,
    max_size=4,
)


def settle(root: Path, number: int) -> None:
    """Let files look as if they had been written a while ago, so that only an event has them looked at again."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink() and path.stat().st_mtime > 10**9 + 10**6:
                os.utime(path, (10**9 + number, 10**9 + number))


def found(scan: Scan) -> object:
    return {
        path: (
            state.rejection and state.rejection.reason,
            state.content and [one.fingerprint for one in state.content.certificates],
            state.content and sorted(one.spki for one in state.content.keys),
        )
        for path, state in scan.files.items()
    }, set(scan.unreadable)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, max_size=8))
def test_scans_of_what_events_name_find_what_a_scan_of_everything_finds(steps: list[list[Change]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve() / "certs"
        root.mkdir()
        scanner = DirectoryScanner([root])
        scanner.scan()
        for number, step in enumerate(steps):
            events = set().union(*(change(root) for change in step))
            settle(root, number)
            assert found(scanner.scan(events=frozenset(map(str, events)))) == found(DirectoryScanner([root]).scan())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, max_size=6))
def test_a_catalogue_that_follows_events_serves_and_complains_as_one_that_looks_at_everything(
    steps: list[list[Change]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name).resolve()
        root, state, trust = base / "certs", base / "state", base / "trust.pem"
        root.mkdir()
        state.mkdir()
        trust.write_bytes(AUTHORITY.pem)
        using = Settings(state, directories=(root,), trust=(trust,))
        following, looking = Catalogue(using), Catalogue(using)
        clock = 0.0
        following.scan(clock)
        for number, step in enumerate(steps):
            events = set().union(*(change(root) for change in step))
            settle(root, number)
            for seconds in (0.0, 5.0):  # a file that has gone is missed after a while
                clock += seconds
                following.scan(clock, events=frozenset(map(str, events)))
                assert what_it_amounts_to(following.assess(NOW)) == what_it_amounts_to(looking.refresh(NOW, clock))


def what_it_amounts_to(snapshot: Snapshot) -> object:
    return dict(snapshot.certificates), sorted(snapshot.problems), snapshot.waiting
