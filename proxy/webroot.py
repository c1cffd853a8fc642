"""ACME challenges as files: what an ACME client such as certbot writes into a web root (RFC 8555 section 8.3).

The way down to a file is gone step by step from the root's own descriptor, and no step follows a link. So neither a
token nor anything that lies in the tree can lead out of it, whatever changes meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from proxy.redirect_target import CHALLENGES

MAX_FILE = 64 << 10  # bytes; a key authorization has about a hundred

_STEPS = tuple(CHALLENGES.strip("/").split("/"))
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hold the worker up


def challenge(root: Path, token: str) -> bytes | None:
    """The content of <root>/.well-known/acme-challenge/<token>; None where there is no such regular file, a link is in
    the way, it cannot be read, or it is larger than MAX_FILE. `token` must have been checked to be a plain file name.
    """
    with contextlib.ExitStack() as opened:
        try:
            directory = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            opened.callback(os.close, directory)
            for step in _STEPS:
                directory = os.open(step, _FLAGS | os.O_DIRECTORY, dir_fd=directory)
                opened.callback(os.close, directory)
            file = os.open(token, _FLAGS, dir_fd=directory)
            opened.callback(os.close, file)
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            content = os.read(file, MAX_FILE + 1)
        except OSError:
            return None
    return content if len(content) <= MAX_FILE else None
