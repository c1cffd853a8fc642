"""Cutting what a stranger sends into lines, and joining lines with the literals they announce, within a cap.

A line comes with its ending, so that who insists on CR LF can see what it was. What is longer than the cap is told
once, as soon as that is certain, and the rest of the line is let go as it comes: nothing but the cap is ever kept,
beside what came in one piece. Where a piece was cut changes nothing of what is read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LITERAL = re.compile(rb"\{(\d{1,20})(\+?)\}\r?\n\Z")  # RFC 9051 section 4.3, RFC 7888, RFC 5804 section 4


def without_ending(line: bytes) -> bytes:
    """The line without its CR LF or LF, of which a literal before it may have more."""
    return line.removesuffix(b"\n").removesuffix(b"\r")


class TooLong(Exception):  # noqa: N818 - it is nobody's error yet
    """A line, with all that belongs to it, is longer than the cap; the next one can be read.

    `beginning` is as much of it as the cap allows, and what follows is still pending.
    """

    def __init__(self, beginning: bytes) -> None:
        super().__init__("the line is too long")
        self.beginning = beginning


class Announced(NamedTuple):
    """A literal is to follow. Whoever reads says by `LiteralReader.accept` that it does; else the next line begins."""

    so_far: bytes  # all that came of the command, the announcement included
    size: int  # bytes
    unasked: bool  # {5+}: it comes at once; without the plus an IMAP client waits to be invited
    fits: bool  # whether the cap leaves room for it


class LineReader:
    """One line after the other, each with its ending and at most `cap` bytes."""

    __slots__ = ("_buffer", "_searched", "_skipping", "cap")

    def __init__(self, cap: int) -> None:
        self._buffer = bytearray()
        self._searched = 0  # bytes at the buffer's beginning that are no line's end
        self._skipping = False
        self.cap = cap

    @property
    def pending(self) -> bytes:
        """What was fed and not read."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next line; None when more is needed. Raises TooLong, once for each line that is."""
        if self._skipping and not self._skip():
            return None
        buffer = self._buffer
        end = buffer.find(b"\n", self._searched, self.cap) + 1
        if end:
            return self.take(end)
        if len(buffer) < self.cap:
            self._searched = len(buffer)
            return None
        self._skipping = True
        raise TooLong(self.take(self.cap))

    def take(self, size: int) -> bytes:
        """The next bytes, `size` at most, whatever they are."""
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        return taken

    def _skip(self) -> bool:
        """Let go what is left of a line that was too long; whether that was all."""
        end = self._buffer.find(b"\n") + 1
        self._skipping = not end
        self.take(end or len(self._buffer))
        return not self._skipping


class LiteralReader:
    """One command or response after the other: a line, or several with the literals between, `cap` bytes at most."""

    __slots__ = ("_cap", "_left", "_lines", "_so_far")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._lines = LineReader(cap)
        self._so_far = b""
        self._left: int | None = None  # bytes of the literal that is being read; None: a line is

    @property
    def pending(self) -> bytes:
        """What was fed and not read."""
        return self._so_far + self._lines.pending

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._lines.feed(data)

    def accept(self, announced: Announced) -> None:
        """The literal follows, and what it belongs to goes on behind it."""
        if not announced.fits:
            raise ValueError("there is no room for this literal")
        self._so_far = announced.so_far
        self._left = announced.size

    def next(self) -> bytes | Announced | None:
        """The next whole command or response, or a literal's announcement; None when more is needed.

        Raises TooLong, once for each line that is too long.
        """
        if self._left is not None and not self._read_literal():
            return None
        self._lines.cap = self._cap - len(self._so_far)
        try:
            line = self._lines.next()
        except TooLong as error:
            whole, self._so_far = self._so_far + error.beginning, b""
            raise TooLong(whole) from None
        if line is None:
            return None
        whole, self._so_far = self._so_far + line, b""
        announcement = _LITERAL.search(line)
        if announcement is None:
            return whole
        size = int(announcement[1])
        return Announced(whole, size, bool(announcement[2]), len(whole) + size + len(b"\r\n") <= self._cap)

    def _read_literal(self) -> bool:
        """Take what has come of a literal; whether that was all."""
        assert self._left is not None
        part = self._lines.take(self._left)
        self._so_far += part
        self._left -= len(part)
        if self._left:
            return False
        self._left = None
        return True


class ResponseReader(LiteralReader):
    """What a server says: its literals come unasked."""

    __slots__ = ()

    def next(self) -> bytes | Announced | None:
        """See LiteralReader. Announced is a literal that does not fit."""
        while isinstance(read := super().next(), Announced) and read.fits:
            self.accept(read)
        return read
