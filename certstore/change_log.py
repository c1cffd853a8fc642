"""What the keeper logs of each change: certificates that come and go, problems that come and go.

Whoever writes certificate files chooses what stands in these lines, but not how many or how long they are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from certstore.certified_key import CertifiedKey
from certstore.inventory import Problem
from certstore.ranking import reason

log = logging.getLogger("snigate.keeper")

CERTIFICATES = 20  # named for one change
NAMES = 5  # of one certificate
PROBLEMS = 100  # told for one scan


def note_problems(before: Sequence[Problem], after: Sequence[Problem]) -> bool:
    """Log each problem once, and once more when it is gone; whether there are new ones."""
    known, found = set(before), set(after)
    fresh = [problem for problem in after if problem not in known]
    for problem in fresh[:PROBLEMS]:
        log.error("%s: %s [%s]", problem.path, problem.message, problem.reason)
    if len(fresh) > PROBLEMS:
        log.error("%d more files or directories have a problem", len(fresh) - PROBLEMS)
    still = {problem.path for problem in found}
    gone = [problem for problem in before if problem not in found and problem.path not in still]
    for problem in gone[:PROBLEMS]:
        log.info("%s: is in order again", problem.path)
    if len(gone) > PROBLEMS:
        log.info("%d more files or directories are in order again", len(gone) - PROBLEMS)
    return bool(fresh)


def note_change(
    number: int, before: Mapping[str, CertifiedKey], put: Sequence[CertifiedKey], retire: Sequence[str]
) -> None:
    """Log which certificates are served from now on and which no longer; all of them where they are few."""
    now = time.time()
    fresh = [one for one in put if one.fingerprint not in before]
    for one in fresh[:CERTIFICATES]:
        log.info(
            "serving certificate %s for %s (%s) from %s",
            one.fingerprint[:16],
            _names(one),
            reason(one, now),
            one.paths[0],
        )
    for fingerprint in retire[:CERTIFICATES]:
        log.info("retired certificate %s for %s", fingerprint[:16], _names(before[fingerprint]))
    if len(fresh) > CERTIFICATES or len(retire) > CERTIFICATES:
        log.info("change %d: %d new certificates, %d retired", number, len(fresh), len(retire))


def _names(one: CertifiedKey) -> str:
    names = (*one.names, *one.addresses)
    shown = ", ".join(names[:NAMES]) or "no name"
    return f"{shown} and {len(names) - NAMES} more" if len(names) > NAMES else shown
