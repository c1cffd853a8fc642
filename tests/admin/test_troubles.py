from __future__ import annotations

import pytest

from admin.troubles import unusable


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        ([], ""),
        (["malformed"], "1 file"),
        (["unreadable_directory"], "1 directory"),
        (["malformed", "unreadable_directory", "truncated", "unreadable_directory"], "2 files and 2 directories"),
    ],
)
def test_directories_are_not_called_files(reasons: list[str], words: str) -> None:
    assert unusable(reasons) == words
