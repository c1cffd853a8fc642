from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import extension_layout
from proxy.client_hello_error import ClientHelloError
from proxy.extension_layout import LONGEST, REMEMBERED, USUAL, layout_of

Extensions = list[tuple[int, bytes]]

# Few types and lengths, so that rows are often equally long and not the same.
EXTENSIONS = st.lists(
    st.tuples(st.sampled_from([0, 10, 13, 16, 43, 51, 0x2A2A]), st.binary(max_size=3)),
    max_size=7,
    unique_by=lambda one: one[0],
)
CLIENTS = st.sampled_from([b"\x13\x01", b"\x13\x02"])


def block_of(extensions: Extensions) -> bytes:
    return b"".join(kind.to_bytes(2) + len(content).to_bytes(2) + content for kind, content in extensions)


def read(block: bytes, client: bytes) -> tuple[tuple[int, ...], dict[int, bytes]]:
    layout = layout_of(block, client)
    found = zip((0, 10, 13, 16, 43), layout.places, strict=True)
    return layout.types, {kind: block[place] for kind, place in found if place is not None}


@given(st.lists(st.tuples(EXTENSIONS, CLIENTS), max_size=20))
def test_whatever_was_remembered_each_block_is_read_as_it_is(blocks: list[tuple[Extensions, bytes]]) -> None:
    for extensions, client in [one for one in blocks for _ in range(3)]:
        types, contents = read(block_of(extensions), client)
        assert types == tuple(kind for kind, _ in extensions)
        assert contents == {kind: content for kind, content in extensions if kind in (0, 10, 13, 16, 43)}


@given(EXTENSIONS, st.data())
def test_a_block_that_breaks_off_is_malformed_though_its_row_was_remembered(
    extensions: Extensions, data: st.DataObject
) -> None:
    block = block_of(extensions)
    for _ in range(3):
        read(block, b"")
    ends = {0}
    for kind, content in extensions:
        ends.add(max(ends) + len(block_of([(kind, content)])))
    for end in range(len(block)):
        if end not in ends:
            with pytest.raises(ClientHelloError, match="longer than what is left"):
                layout_of(block[:end], b"")
    if block:
        place = data.draw(st.integers(0, len(block) - 1))
        spoilt = block[:place] + bytes([block[place] ^ data.draw(st.integers(1, 255))]) + block[place + 1 :]
        extension_layout._remembered.clear()
        alone = attempt(spoilt)
        for _ in range(3):
            read(block, b"")
        assert attempt(spoilt) == alone


def attempt(block: bytes) -> object:
    try:
        return read(block, b"")
    except ClientHelloError as error:
        return str(error)


def test_only_so_many_rows_are_remembered_and_none_of_large_blocks() -> None:
    for number in range(3 * REMEMBERED):
        layout_of(block_of([(number, b"")]), number.to_bytes(2))
        assert len(extension_layout._remembered) <= REMEMBERED
    extension_layout._remembered.clear()
    layout_of(block_of([(7, bytes(LONGEST))]), b"")
    layout_of(block_of([(7, b"")]), bytes(USUAL + 1))
    assert not extension_layout._remembered
