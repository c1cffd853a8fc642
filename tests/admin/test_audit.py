from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin.audit import FILE, Actor, AuditLog
from certstore.cabinet import CabinetError

ACTOR = Actor("somebody", "command")


@pytest.fixture
def room_for_files_of() -> Iterator[object]:
    """Lets this process write files of so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_that_there_is_no_room_for_leaves_nothing_of_itself(tmp_path: Path, room_for_files_of: object) -> None:
    audit, file = AuditLog(tmp_path), tmp_path / FILE
    audit.note(ACTOR, "first")
    before = file.read_bytes()
    assert callable(room_for_files_of)
    room_for_files_of(len(before) + 10)
    with pytest.raises(CabinetError, match=r"No space left on device\), so nothing was changed; make room"):
        audit.note(ACTOR, "second")
    assert file.read_bytes() == before
    room_for_files_of(resource.RLIM_INFINITY)
    audit.note(ACTOR, "third")
    assert [json.loads(line)["action"] for line in file.read_text().splitlines()] == ["first", "third"]
