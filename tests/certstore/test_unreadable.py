from __future__ import annotations

import errno
import os

import pytest

from certstore.unreadable import LEADS_OUT, of_directory, user_name

KEY = "certificates.directories"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOENT, "does not exist; make it, or correct certificates.directories"),
        (errno.ENOTDIR, "is a file; name its directory in certificates.directories"),
        (errno.EIO, "cannot be read (Input/output error); mend that, or correct certificates.directories"),
        (LEADS_OUT, "is a link that leads out of the certificate directories; remove it"),
    ],
)
def test_a_directorys_sentence_depends_on_the_case_and_names_the_key(code: int, sentence: str) -> None:
    assert of_directory(code, KEY, held=False) == sentence
    assert of_directory(code, KEY, held=True) == f"{sentence}; what it held last stays in service"


def test_a_directory_that_no_key_names_is_told_of_without_one() -> None:
    assert of_directory(errno.ENOENT, None, held=False) == "does not exist; make it, or correct its path"


def test_a_directory_that_may_not_be_read_names_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert of_directory(errno.EACCES, KEY, held=False).startswith("may not be read by user root; ")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    assert user_name() == "4000000000"
