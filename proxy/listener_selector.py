"""The selectors of listeners that have a default certificate or pins of their own."""

from __future__ import annotations

import base64
import logging

from certstore.preference import Preference
from certstore.replica import Replica
from certstore.selector import ALL, Selection, Selector
from config.model import ListenerConfig

log = logging.getLogger("snigate.selection")

MAX_SEEN = 1024  # certificates remembered; a pinned listener serves few


def preference_of(listener: ListenerConfig) -> Preference | None:
    """What the listener's `default` and `pin` ask for; None where it has neither."""
    if listener.default is None and not listener.pin:
        return None
    return Preference(listener.default, frozenset(map(base64.b64decode, listener.pin)))


def selector_of(listener: ListenerConfig, replica: Replica) -> Selector:
    """The selector for a listener's clients: the replica's own, where the listener prefers nothing."""
    preference = preference_of(listener)
    if preference is None:
        return replica.selector
    if preference.pins:
        selector: Selector = PinnedSelector(listener.name, replica, preference)
    else:
        selector = Selector(replica.index, replica.order, replica.clock, preference)
    replica.keep_up(selector)
    return selector


class PinnedSelector(Selector):
    """Says so, once for each certificate, when what a pinned listener serves has none of the pinned keys."""

    def __init__(self, listener: str, replica: Replica, preference: Preference) -> None:
        super().__init__(replica.index, replica.order, replica.clock, preference)
        self._listener = listener
        self._seen: set[str] = set()

    def select(
        self, host: str | None, usable: int = ALL, local_address: str | None = None, *, strict: bool = False
    ) -> Selection | None:
        """As every selector."""
        selection = super().select(host, usable, local_address, strict=strict)
        if selection is not None and selection.certificate.fingerprint not in self._seen:
            self._look_at(selection)
        return selection

    def _look_at(self, selection: Selection) -> None:
        one = selection.certificate
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.add(one.fingerprint)
        if self._preference.passes_over(one):
            log.warning(
                "listener %s serves certificate %s (%s), whose key is none of its pins, to a client for which no "
                "pinned key has a certificate; senders that check TLSA records may refuse it",
                self._listener,
                one.fingerprint[:16],
                ", ".join(one.paths),
            )
