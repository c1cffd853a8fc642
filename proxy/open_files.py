"""How many files a process may have open: what bounds its connections where nothing else does.

A connection takes two, one for each of its legs. Where files are short, accepting pauses (`Listener`); were they all
taken by handshakes that stall, nobody would get in. So these may take half of the files, whatever the limits say, and
mail dialogues before them, which have no backend yet, a quarter.
"""

from __future__ import annotations

import resource


def use_all_allowed() -> int:
    """Raise the soft limit to the hard one, for this process and its children; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def most_handshakes() -> int:
    """How many unfinished handshakes this process may hold, each with its two files, so that half are left."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft // 4)
