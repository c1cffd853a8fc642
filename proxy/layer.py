"""What lies between a leg's socket and the stream that is relayed: TLS, or nothing.

A layer is bytes in and bytes out. `TlsEngine` is one, at either end of TLS; `PlainText` is the other.
"""

from __future__ import annotations

from typing import Protocol

Buffer = bytes | bytearray | memoryview


class Layer(Protocol):
    """Turns what a socket carries into the stream, and back."""

    marks_end: bool  # whether the layer tells the stream's end itself; where it does not, TCP's FIN is the end
    ended: bool  # the peer's end has come
    more: bool  # there was too much to decode at once; ask again, with no data

    def decode(self, data: Buffer) -> Buffer:
        """What of the stream has arrived, with `data` from the socket. Raises TlsError. Then ask for `output`."""

    def encode(self, data: Buffer) -> Buffer:
        """Bytes for the socket that carry `data` whole. Raises TlsError."""

    def output(self) -> bytes:
        """Bytes for the socket that the layer itself wants to send."""

    def close(self) -> bytes:
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

    def output(self) -> bytes:
        """See Layer.output."""
        return b""

    def close(self) -> bytes:
        """See Layer.close."""
        return b""


PLAIN_TEXT = PlainText()
