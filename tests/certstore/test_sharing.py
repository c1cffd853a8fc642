from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from certstore.errors import RejectReason
from certstore.file_state import FileState, Rejection
from certstore.load import FileContent, parse_file
from certstore.sharing import Shared, pack, unpack
from tests.support.pki import Authority

ROOT = Authority.make()
LOWER = Authority.make("Lower", ROOT)
PAIRS = [LOWER.issue(f"host{number}.example.com") for number in range(3)]
CONTENTS = [parse_file(one.combined_pem) for one in PAIRS]

states_ = st.one_of(
    st.none(),
    st.builds(lambda number: FileState(bytes([number]) * 8, CONTENTS[number], None), st.integers(0, 2)),
    st.builds(lambda message: FileState(b"s", None, Rejection(RejectReason.MALFORMED, message)), st.text(max_size=20)),
)


@given(st.lists(states_, max_size=8))
@settings(deadline=None)
def test_what_is_packed_comes_out_the_same_and_each_certificate_once(states: list[FileState | None]) -> None:
    found = unpack(pack(states))
    assert found == states
    by_fingerprint: dict[str, set[int]] = {}
    for state in found:
        content = state.content if state is not None else None
        for one in content.certificates if content is not None else ():
            by_fingerprint.setdefault(one.fingerprint, set()).add(id(one))
    assert all(len(objects) == 1 for objects in by_fingerprint.values())


def test_files_that_hold_one_certificate_have_the_same_object() -> None:
    shared = Shared()
    first, second = (shared.share(FileState(b"s", parse_file(one.combined_pem + LOWER.pem), None)) for one in PAIRS[:2])
    again = FileState(b"t", FileContent(tuple(_copies(first)), first.content.keys if first.content else ()), None)
    assert _lower(first) is _lower(second)
    assert _lower(shared.share(again)) is _lower(first)
    assert shared.share(first) is first


def test_what_no_file_holds_is_forgotten() -> None:
    shared = Shared()
    first = shared.share(FileState(b"s", CONTENTS[0], None))
    shared.keep([])
    copy = FileState(b"s", FileContent(tuple(_copies(first)), ()), None)
    assert shared.share(copy) is copy


def _copies(state: FileState) -> list:  # type: ignore[type-arg]  # of certificates
    assert state.content is not None
    data = unpack(pack([state]))[0]
    assert data is not None
    assert data.content is not None
    return list(data.content.certificates)


def _lower(state: FileState) -> object:
    assert state.content is not None
    return next(one for one in state.content.certificates if one.is_ca)
