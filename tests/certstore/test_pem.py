from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from certstore.load import MAX_FILE_SIZE
from certstore.pem import split
from tests.support.pki import self_signed

RFC_1421 = re.compile(rb"(?:[ \t]*[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t]+[^\n]*\n)*)*")  # slow, but plain to see
LINES = (b"A: b", b"Proc-Type: 4,ENCRYPTED", b" folded", b"\t", b" C: d", b"MIIB", b"", b":", b"a b: c", b"\r")


@given(st.lists(st.sampled_from(LINES) | st.text(" \tAb:-\r", max_size=6).map(str.encode), max_size=8), st.booleans())
def test_headers_with_folded_lines_are_told_from_the_body(lines: list[bytes], final: bool) -> None:
    inner = b"\n".join((b"", b"X: y", *lines)) + b"\n" * final
    (block,) = split(b"-----BEGIN CERTIFICATE-----" + inner + b"-----END CERTIFICATE-----\n")
    plain = inner.replace(b"\r\n", b"\n").lstrip(b"\n")
    match = RFC_1421.match(plain)
    assert match is not None
    assert (block.headers, block.body) == (match[0], plain[match.end() :])


def test_a_file_full_of_blanks_or_of_headers_is_cut_in_one_pass() -> None:
    """Where each character were looked at again for each other one, these would take an hour."""
    size = MAX_FILE_SIZE - 1000
    certificate = self_signed("a.example").certificate_pem
    for filling in (b" ", b"\t \t", b"a:\n", b" \n", b"\n ", b"a", b"-", b"-----BEGIN", b"\n\n "):
        inside = b"-----BEGIN X-----\nA: b\n" + filling.replace(b"-----BEGIN", b"-----") * (size // len(filling))
        blocks = split(inside + b"\n-----END X-----\n" + certificate)
        assert [block.label for block in blocks] == ["X", "CERTIFICATE"]
