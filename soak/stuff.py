"""The bytes that are downloaded and uploaded: random, and in every process the same, so that each end can check."""

from __future__ import annotations

import hashlib
import random
from functools import cache

SIZE = 4 << 20


@cache
def _stuff() -> bytes:
    return random.Random(20).randbytes(SIZE)


def piece(offset: int, size: int) -> memoryview:
    """`size` bytes from `offset` on, both together SIZE at most."""
    return memoryview(_stuff())[offset : offset + size]


def digest(data: bytes | bytearray | memoryview) -> str:
    """SHA-256 as hexadecimal."""
    return hashlib.sha256(data).hexdigest()
