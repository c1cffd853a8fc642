"""PEM files (RFC 7468) cut into blocks: whatever lies around them is passed over, nothing half-written is let through.

A file may be read while its writer is still at it. A BEGIN line without its END line, or the first part of a BEGIN
line at the very end, is therefore told apart (TRUNCATED) from content that is wrong (MALFORMED).
"""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from certstore.errors import FileRejected, RejectReason

_BEGIN = b"-----BEGIN "
_PLAIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----\n([A-Za-z0-9+/=\n]+)\n-----END \1-----\n")
_LONGEST_LABEL = 64
_HEADER = re.compile(rb"[ \t]*[A-Za-z][A-Za-z0-9-]*:")  # how a header line starts, RFC 1421
_BLANKS = b" \t\r\n"
_CIPHER = re.compile(rb"DEK-Info:[ \t]*([A-Za-z0-9-]+)")


class Block(NamedTuple):
    """One block: its label ("CERTIFICATE"), its whole text from BEGIN to END, and where its body lies in that."""

    label: str
    text: bytes
    headers: bytes  # RFC 1421 header lines, empty for most
    body: bytes  # base64 with its white space

    @property
    def encrypted(self) -> bool:
        """Whether the block needs a passphrase: PKCS#8, or the traditional way with headers."""
        return self.label == "ENCRYPTED PRIVATE KEY" or b"ENCRYPTED" in self.headers

    @property
    def cipher(self) -> str:
        """The traditional encryption's cipher, "AES-256-CBC"; empty when the headers name none."""
        found = _CIPHER.search(self.headers)
        return found[1].decode().upper() if found else ""

    def decode(self) -> bytes:
        """The bytes that the base64 body stands for; raises FileRejected (MALFORMED)."""
        try:
            return binascii.a2b_base64(self.body.translate(None, _BLANKS), strict_mode=True)
        except binascii.Error:
            raise FileRejected(
                RejectReason.MALFORMED, f"the base64 of a {self.label} block is damaged; write the file again"
            ) from None


def plain(data: bytes) -> bytes:
    """The file's text without a byte order mark; UTF-16, which PowerShell writes, becomes ASCII."""
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").encode("ascii", "replace")
    return data


def split(data: bytes) -> list[Block]:
    """Every block in order; empty when there is none. Raises FileRejected (TRUNCATED or MALFORMED)."""
    blocks = []
    at = 0
    while (plain_block := _PLAIN.match(data, at)) is not None:  # as most files are, from their first byte to the last
        blocks.append(Block(plain_block[1].decode(), plain_block[0], b"", plain_block[2]))
        at = plain_block.end()
    if at == len(data) and blocks:
        return blocks
    return _split_slowly(data)


def _split_slowly(data: bytes) -> list[Block]:
    blocks = []
    at = 0
    while (begin := _find_begin(data, at)) is not None:
        start, inner, label = begin
        footer = b"-----END " + label + b"-----"
        end = data.find(footer, inner)
        name = label.decode("ascii", "replace")
        if end < 0 or data.find(_BEGIN, inner, end) >= 0:
            raise FileRejected(
                RejectReason.TRUNCATED, f"a {name} block begins but does not end; write the file again, whole"
            )
        at = end + len(footer)
        headers, body = _parts(data[inner:end])
        blocks.append(Block(name, data[start:at] + b"\n", headers, body))
    if _ends_in_begin_line(data[at:]):
        raise FileRejected(RejectReason.TRUNCATED, "ends inside a BEGIN line; write the file again, whole")
    if data.count(b"-----END ") > len(blocks):
        raise FileRejected(RejectReason.MALFORMED, "an END line has no BEGIN line before it; write the file again")
    return blocks


def _find_begin(data: bytes, at: int) -> tuple[int, int, bytes] | None:
    """The next BEGIN line: (where it starts, where the block's inside starts, its label).

    It starts a line, but for white space; or directly follows an END line's dashes, as in files put together with
    `cat` that lacked their last newline.
    """
    while (start := data.find(_BEGIN, at)) >= 0:
        at = start + len(_BEGIN)
        close = data.find(b"-----", at, at + _LONGEST_LABEL + 5)
        before = data[max(0, start - 64) : start].rstrip(b" \t")[-5:]
        if close > at and b"\n" not in data[at:close] and (before[-1:] in (b"", b"\n", b"\r") or before == b"-----"):
            return start, close + 5, data[at:close]
    return None


def _ends_in_begin_line(rest: bytes) -> bool:
    last = rest[max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1 :].lstrip(b" \t")
    return last.startswith(_BEGIN) or (len(last) >= 5 and _BEGIN.startswith(last))


def _parts(inner: bytes) -> tuple[bytes, bytes]:
    if b":" not in inner:
        return b"", inner
    inner = inner.replace(b"\r\n", b"\n").lstrip(b"\n")
    at = 0
    while (end := inner.find(b"\n", at) + 1) and (
        _HEADER.match(inner, at) or (at and inner[at : at + 1] in (b" ", b"\t"))  # a folded line goes on with blanks
    ):
        at = end
    return inner[:at], inner[at:]
