from __future__ import annotations

import os

import msgspec

from tests.admin.conftest import Place
from tests.support.pki import pem_of


def test_file_names_that_are_not_utf_8_are_read_and_can_be_sent_and_shown(place: Place) -> None:
    pair = place.root.issue("www.example.com")
    directory = os.fsencode(place.path / "certs")
    for name, content in {
        b"\xff.pem": pair.combined_pem,
        b"bad\xfe.pem": b"",
        b"alone\xfd.pem": pem_of(place.root.issue("a.example").certificate),
    }.items():
        with open(os.path.join(directory, name), "wb") as file:  # noqa: PTH118, PTH123 - a path of bytes
            file.write(content)
    reading = place.read()
    (certificate,) = reading.certificates
    (problem,) = reading.problems
    (waiting,) = reading.snapshot.waiting
    sent = msgspec.msgpack.encode((certificate.paths, problem.path, waiting))
    assert msgspec.msgpack.decode(sent) == [
        [f"{place.path}/certs/\\udcff.pem"],
        f"{place.path}/certs/bad\\udcfe.pem",
        waiting,
    ]
    assert place.run("check").exit_code == 1
    assert place.run("certs", "list").exit_code == 0


def test_names_in_other_alphabets_stay_as_they_are(place: Place) -> None:
    place.add(place.root.issue("www.example.com"), "bücher")
    (certificate,) = place.read().certificates
    assert certificate.paths[0] == str(place.path / "certs/bücher.crt")


def test_reading_again_gives_the_same_and_writes_nothing(place: Place) -> None:
    place.add(place.root.issue("www.example.com"), "www")
    before = place.files()
    first, second = place.read(), place.read()
    assert first.certificates == second.certificates
    assert place.files() == before


def test_the_directory_that_the_server_makes_at_its_start_may_be_missing(place: Place) -> None:
    assert place.read().problems == ()
