"""What the keeper logs about the difference between two snapshots, each thing once.

Whoever writes certificate files chooses what stands in these lines, but not how many or how long they are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from certstore.catalogue import Snapshot
from certstore.certified_key import CertifiedKey
from certstore.names import wildcard_of
from certstore.ranking import reason

log = logging.getLogger("snigate.keeper")

LOGGED_AT_MOST = 20  # certificates and files named in the log for one change
NAMES = 5  # of one certificate
PROBLEMS = 100  # told for one scan


def note_problems(before: Snapshot, after: Snapshot) -> bool:
    """Log each problem, and each file without its key, once, and once more when it is gone; whether there is a new one.

    A file that only waits for its key is no problem.
    """
    known, found = set(before.problems), set(after.problems)
    fresh = [problem for problem in after.problems if problem not in known]
    for problem in fresh[:PROBLEMS]:
        log.error("%s: %s [%s]", problem.path, problem.message, problem.reason)
    if len(fresh) > PROBLEMS:
        log.error("%d more files or directories have a problem", len(fresh) - PROBLEMS)
    still = {problem.path for problem in found}
    gone = [problem for problem in before.problems if problem not in found and problem.path not in still]
    for problem in gone[:PROBLEMS]:
        log.info("%s: is in order again", problem.path)
    if len(gone) > PROBLEMS:
        log.info("%d more files or directories are in order again", len(gone) - PROBLEMS)
    _note_waiting(before, after)
    return bool(fresh)


def note_change(
    number: int,
    before: Snapshot,
    after: Snapshot,
    put: list[CertifiedKey],
    retire: list[str],
    is_there: Callable[[str], bool],
) -> None:
    """Log what is served from now on and what no longer is. `is_there` knows the files found now."""
    now = time.time()
    fresh = [one for one in put if one.fingerprint not in before.certificates]
    for one in fresh[:LOGGED_AT_MOST]:
        names = _names(one)
        log.info(
            "serving certificate %s for %s (%s) from %s", one.fingerprint[:16], names, reason(one, now), one.paths[0]
        )
    retired = [before.certificates[fingerprint] for fingerprint in retire[:LOGGED_AT_MOST]]
    successors = [_successor(one, fresh) for one in retired]
    alone = [one for one, successor in zip(retired, successors, strict=True) if successor is None]
    others = _carried(after, (one.names[0] for one in alone if one.names))
    for one, successor in zip(retired, successors, strict=True):
        why = _why_gone(one, is_there, others) if successor is None else _replaced_by(successor)
        log.info("retired certificate %s for %s: %s", one.fingerprint[:16], _names(one), why)
    if len(fresh) > LOGGED_AT_MOST or len(retire) > LOGGED_AT_MOST:
        log.info("change %d: %d new certificates, %d retired", number, len(fresh), len(retire))


def _note_waiting(before: Snapshot, after: Snapshot) -> None:
    """Log each certificate file that has begun to wait for its key, and each that has got it."""
    begun = sorted(after.waiting - before.waiting)
    for path in begun[:LOGGED_AT_MOST]:
        log.warning("%s: holds a certificate without its private key; put the key into any certificate directory", path)
    if len(begun) > LOGGED_AT_MOST:
        log.warning("%d further files hold certificates without private key", len(begun) - LOGGED_AT_MOST)
    over = before.waiting - after.waiting
    if over:
        changed = (after.certificates[fingerprint] for fingerprint in after.changed & after.certificates.keys())
        served = {path for one in changed for path in one.paths}
        for path in sorted(over & served)[:LOGGED_AT_MOST]:
            log.info("%s: has its private key now", path)


def _successor(retired: CertifiedKey, fresh: list[CertifiedKey]) -> CertifiedKey | None:
    """What one of its files holds now."""
    return next((one for one in fresh if not set(one.paths).isdisjoint(retired.paths)), None)


def _replaced_by(successor: CertifiedKey) -> str:
    return f"{successor.paths[0]} now holds {successor.fingerprint[:16]}"


def _why_gone(retired: CertifiedKey, is_there: Callable[[str], bool], others: frozenset[str]) -> str:
    """Why a certificate was retired, and whether another one is there for its first name, which is then served."""
    gone = next((path for path in retired.paths if not is_there(path)), None)
    why = f"{gone} is gone" if gone is not None else f"{retired.paths[0]} no longer holds it"
    if not retired.names:
        return why
    what = "another certificate serves" if retired.names[0] in others else "no other certificate is for"
    return f"{why}; {what} {retired.names[0]}"


def _carried(snapshot: Snapshot, names: Iterable[str]) -> frozenset[str]:
    """Those of some names that a certificate carries, by itself or by a wildcard."""
    wanted = {name: {name, wildcard_of(name)} for name in names}
    keys = frozenset[str | None]().union(*wanted.values())
    found = {name for one in snapshot.certificates.values() for name in one.names if name in keys} if keys else set()
    return frozenset(name for name, ways in wanted.items() if not ways.isdisjoint(found))


def _names(one: CertifiedKey) -> str:
    names = (*one.names, *one.addresses)
    shown = ", ".join(names[:NAMES]) or "no name"
    return f"{shown} and {len(names) - NAMES} more" if len(names) > NAMES else shown
