from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.starttls.lines import Announced, LineReader, LiteralReader, ResponseReader, TooLong
from tests.support.mail import cut

CAP = 16
Read = list[bytes | Announced | str]


def everything(reader: LineReader | LiteralReader, pieces: list[bytes]) -> Read:
    """All that can be read; every literal that fits is accepted."""
    read: Read = []
    for piece in pieces:
        reader.feed(piece)
        while True:
            try:
                one = reader.next()
            except TooLong as error:
                read.append("too long: " + error.beginning.decode("latin-1"))
                continue
            if one is None:
                break
            if isinstance(one, Announced) and one.fits:
                assert isinstance(reader, LiteralReader)
                reader.accept(one)
            else:
                read.append(one)
        assert len(reader.pending) <= CAP
    return read


def test_a_line_comes_with_its_ending() -> None:
    assert everything(LineReader(CAP), [b"one\r\ntwo\n\r\nthree"]) == [b"one\r\n", b"two\n", b"\r\n"]


def test_a_line_may_be_as_long_as_the_cap_and_no_longer() -> None:
    longest = b"x" * (CAP - 2) + b"\r\n"
    assert everything(LineReader(CAP), [longest]) == [longest]
    assert everything(LineReader(CAP), [b"x" + longest + b"next\r\n"]) == ["too long: " + "x" * 15 + "\r", b"next\r\n"]


def test_a_line_is_too_long_as_soon_as_that_is_certain() -> None:
    assert everything(LineReader(CAP), [b"x" * (CAP - 1)]) == []
    assert everything(LineReader(CAP), [b"x" * CAP]) == ["too long: " + "x" * CAP]


def test_a_line_that_is_too_long_is_told_once_and_never_kept() -> None:
    reader = LineReader(CAP)
    assert everything(reader, [b"x" * 100] * 1000) == ["too long: " + "x" * CAP]
    assert reader.pending == b""
    assert everything(reader, [b"\r\n", b"next\r\n"]) == [b"next\r\n"]


def test_a_literal_and_what_follows_it_belong_to_the_line() -> None:
    assert everything(LiteralReader(CAP), [b"a {3}\r\n\r\nb c\r\nd\r\n"]) == [b"a {3}\r\n\r\nb c\r\n", b"d\r\n"]


def test_a_literal_that_is_not_accepted_is_followed_by_a_line() -> None:
    reader = LiteralReader(CAP)
    reader.feed(b"a {3}\r\nb\r\n")
    assert reader.next() == Announced(b"a {3}\r\n", 3, unasked=False, fits=True)
    assert reader.next() == b"b\r\n"


@pytest.mark.parametrize(("size", "fits"), [(55, True), (56, False), (10**19, False)])
def test_a_literal_fits_if_the_cap_has_room_for_it_and_a_line_ending(size: int, fits: bool) -> None:
    reader = LiteralReader(64)
    reader.feed(b"{%d+}\r\n" % size)
    announced = reader.next()
    assert isinstance(announced, Announced)
    assert (announced.unasked, announced.fits) == (True, fits)
    if not fits:
        with pytest.raises(ValueError, match="no room"):
            reader.accept(announced)


def test_the_cap_is_for_a_command_and_its_literals_together() -> None:
    read = everything(LiteralReader(CAP), [b"a {3}\r\nxyz 789012\r\nnext\r\n"])
    assert read == ["too long: a {3}\r\nxyz 78901", b"next\r\n"]


@pytest.mark.parametrize("line", [b'"{5}"\r\n', b"{5} \r\n", b"{}\r\n", b"{-1}\r\n", b"{5++}\r\n", b"{5\r\n"])
def test_what_is_only_like_an_announcement_is_none(line: bytes) -> None:
    assert everything(LiteralReader(CAP), [line]) == [line]


def test_a_response_reader_takes_literals_by_itself() -> None:
    reader = ResponseReader(CAP)
    reader.feed(b"*{1}\r\na {1}\r\n\r\n")
    assert reader.next() == b"*{1}\r\na {1}\r\n\r\n"


texts = st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"{3}\r\n", b"{3+}\r\n", b"{9}\n", b"{", b"x" * 9])).map(
    b"".join
)
places = st.lists(st.integers(0, 1 << 10))


@given(texts, places)
def test_where_the_bytes_are_cut_changes_nothing(data: bytes, places: list[int]) -> None:
    for kind in (LineReader, LiteralReader):
        assert everything(kind(CAP), cut(data, places)) == everything(kind(CAP), [data])
