"""An id for each connection, the same in the access log and in the PROXY header, so that both can be joined."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

_PREFIX = 8  # random bytes, so that no two workers' ids meet, before or after a restart


def connection_ids() -> Iterator[str]:
    """Ids, each given once: 16 hexadecimal digits of the worker's own, a hyphen, and a number. At most 33 characters
    in 2**64 connections, where PROXY protocol 2 takes 128 bytes. Make one in each worker, after the fork.
    """
    prefix = os.urandom(_PREFIX).hex()
    return (f"{prefix}-{number:x}" for number in count(1))
