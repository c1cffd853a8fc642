"""What becomes of a request that cannot be granted."""

from __future__ import annotations

from certstore.errors import CertstoreError


class Refused(CertstoreError):  # noqa: N818 - what became of it
    """What was asked for is not done; a sentence that says why, and what to do. `field` is the one to correct."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
