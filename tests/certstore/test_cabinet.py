from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certstore.cabinet import Cabinet, CabinetError, _safe
from certstore.certificate import read_certificate
from certstore.issue import Subject, make_key, names_wanted, signing_request
from certstore.load import parse_file
from certstore.private_key import read_private_key
from tests.support.pki import Authority, Pair

ROOT = Authority.make()
LOWER = Authority.make("Lower", ROOT)
PAIR = LOWER.issue("*.example.com", "www.example.com")


def kept(cabinet: Cabinet, pair: Pair = PAIR) -> Path:
    return cabinet.put_certificate(read_certificate(pair.der), pair.chain_der, pair.key_der)


def test_a_pair_is_one_private_file_that_is_read_back_whole(tmp_path: Path) -> None:
    path = kept(Cabinet(tmp_path))
    assert path == tmp_path / "certs" / f"_.example.com-{PAIR.fingerprint[:8]}.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    content = parse_file(path.read_bytes())
    assert [one.der for one in content.certificates] == [PAIR.der, *PAIR.chain_der]
    assert content.keys[0].der == PAIR.key_der
    assert kept(Cabinet(tmp_path)) == path, "to keep the same again changes nothing"
    assert len(list(path.parent.iterdir())) == 1


def test_requests_wait_until_they_are_discarded(tmp_path: Path) -> None:
    cabinet = Cabinet(tmp_path)
    assert cabinet.requests() == []
    names, key = names_wanted(["Mail.example.com", "192.0.2.1"]), read_private_key(make_key())
    made = cabinet.put_request(names, key, signing_request(names, key.der, Subject(country="de")))
    (tmp_path / "requests" / "junk.pem").write_text("junk")
    (tmp_path / "requests" / ".hidden").write_text("junk")
    (found,) = cabinet.requests()
    assert (found.id, found.names, found.key, found.request) == (made.id, names, key, made.request)
    to = cabinet.place_in_trash()
    cabinet.discard([found.path], to)
    assert cabinet.requests() == []
    assert (to / found.path.name).exists()


def test_roots_are_kept_and_found(tmp_path: Path) -> None:
    cabinet = Cabinet(tmp_path)
    path = cabinet.put_root(read_certificate(ROOT.der))
    (tmp_path / "trust" / "broken.pem").write_text("-----BEGIN CERTIFICATE-----")
    fingerprint = read_certificate(ROOT.der).fingerprint
    assert [(one.certificate.fingerprint, one.path, one.is_alone) for one in cabinet.roots()] == [
        (fingerprint, path, True)
    ]
    path.write_bytes(ROOT.pem + LOWER.pem)
    assert [one.is_alone for one in cabinet.roots()] == [False, False]


def test_files_of_one_name_keep_apart_in_the_trash(tmp_path: Path) -> None:
    paths = [tmp_path / place / "same.pem" for place in ("certs", "trust")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(str(path))
    to = Cabinet(tmp_path).place_in_trash()
    Cabinet(tmp_path).discard(paths, to)
    assert sorted(one.read_text() for one in to.iterdir()) == [*map(str, paths)]


@pytest.mark.parametrize("where", ["outside", "link", "fifo", "directory", "through a link", "default"])
def test_nothing_but_plain_files_of_its_own_is_moved(tmp_path: Path, where: str) -> None:
    cabinet = Cabinet(tmp_path / "state")
    (tmp_path / "state").mkdir()
    own = kept(cabinet)
    outside = tmp_path / "outside.pem"
    outside.write_text("mine")
    path = {
        "outside": outside,
        "link": own.parent / "link.pem",
        "fifo": own.parent / "fifo.pem",
        "directory": own.parent,
        "through a link": own.parent / "elsewhere" / "outside.pem",
        "default": tmp_path / "state" / "default",
    }[where]
    (own.parent / "link.pem").symlink_to(outside)
    (own.parent / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(own.parent / "fifo.pem")
    cabinet.set_default("www.example.com")
    with pytest.raises(CabinetError, match="yourself"):
        cabinet.discard([own, path], cabinet.place_in_trash())
    assert own.exists()
    assert outside.read_text() == "mine"
    assert not (tmp_path / "state" / "trash").exists()


def test_what_cannot_be_written_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "certs").write_text("a file in the directory's place")
    with pytest.raises(CabinetError, match=r"certs/_\.example\.com-.* cannot be written \(.*\); run this as the user"):
        kept(Cabinet(tmp_path))


@given(st.text())
def test_no_text_becomes_a_path(text: str) -> None:
    safe = _safe(text)
    assert safe
    assert "/" not in safe
    assert "\0" not in safe
    assert not safe.startswith(".")
    assert len(safe) <= 100
