"""What the two legs of a relay tell it, and what they look up there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.leg import Leg


class Hub(Protocol):
    """What a leg asks of its relay."""

    over: bool
    last: float  # when bytes came or went, in the loop's time

    def heard_end(self, leg: Leg) -> None:
        """The leg's peer has ended its stream cleanly."""

    def heard_truncation(self, leg: Leg) -> None:
        """The leg's peer has ended TCP in the middle of its stream."""

    def broken(self, leg: Leg) -> None:
        """The leg's peer broke TLS. What TLS has to say to it has been sent."""

    def flooded(self, leg: Leg) -> None:
        """More is held for the leg's peer than may be."""

    def failed(self, leg: Leg) -> None:
        """Reading from the leg's socket failed, or sending to it when nothing more is to be had from it."""

    def send_failed(self, leg: Leg) -> None:
        """Sending failed; the socket may still hold what its peer said before."""

    def finished(self) -> None:
        """All that a leg was given, its end included, has left."""
