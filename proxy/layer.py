"""What lies between a socket and the stream that goes over it: TLS, or nothing, for those who ask for either alike.

A layer is bytes in and bytes out. `TlsEngine` is one, at either end of TLS; `PlainText` is the other.

What a layer gives may lie in a buffer that every layer uses. It is good until any layer is called again: who wants it
for longer makes a copy. What a layer is given may be what another has just given.
"""

from __future__ import annotations

from typing import Protocol

Buffer = bytes | bytearray | memoryview


class Layer(Protocol):
    """Turns what a socket carries into the stream, and back."""

    marks_end: bool  # whether the layer tells the stream's end itself; where it does not, TCP's FIN is the end
    ended: bool  # the peer's end has come
    more: bool  # there may be something to decode that has come already; ask again, with no data

    def decode(self, data: Buffer) -> Buffer:
        """What of the stream has arrived, with `data` from the socket. Raises TlsError. Then ask for `output`."""

    def encode(self, data: Buffer) -> Buffer:
        """Bytes for the socket that carry `data` whole. Raises TlsError."""

    def output(self) -> Buffer:
        """Bytes for the socket that the layer itself wants to send."""

    def close(self) -> Buffer:
        """Bytes for the socket that end our direction of the stream; TCP's FIN is for the caller to send."""


class PlainText:
    """No layer: the stream is what the socket carries."""

    __slots__ = ()

    marks_end = False
    ended = False
    more = False

    def decode(self, data: Buffer) -> Buffer:
        """See Layer.decode. A view of a buffer is handed on as it is."""
        return data

    def encode(self, data: Buffer) -> Buffer:
        """See Layer.encode."""
        return data

    def output(self) -> Buffer:
        """See Layer.output."""
        return b""

    def close(self) -> Buffer:
        """See Layer.close."""
        return b""


PLAIN_TEXT = PlainText()
