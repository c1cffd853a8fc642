"""What `snigate check` finds about the certificates that single listeners prefer: their own defaults and pins."""

from __future__ import annotations

from collections.abc import Iterator

from admin.explanation import routed_hosts
from admin.reading import Reading
from admin.text import iso
from certstore.preference import Preference
from certstore.selector import Selector
from config.model import ListenerConfig
from proxy.listener_selector import preference_of

KeyMessage = tuple[str, str]


def findings_of_listeners(reading: Reading) -> Iterator[KeyMessage]:
    """(key, warning) for every listener's own default that nothing covers, and for pins that would not be kept."""
    for listener in reading.config.listeners:
        for key, message in (*_default(reading, listener), *_pins(reading, listener)):
            yield f"listeners[{listener.name}].{key}", message


def _default(reading: Reading, listener: ListenerConfig) -> Iterator[KeyMessage]:
    name = listener.default
    if name is not None and reading.selector.select(name, strict=True) is None:
        yield (
            "default",
            f"no certificate covers {name}, so clients that send no server name get the default one of [certificates]; "
            "add a certificate for it",
        )


def _pins(reading: Reading, listener: ListenerConfig) -> Iterator[KeyMessage]:
    preference = preference_of(listener)
    if preference is None or not preference.pins:
        return
    if not any(map(preference.is_pinned, reading.certificates)):
        yield (
            "pin",
            "no certificate has any of these public keys, so clients are served what they would be without the pin, "
            "and senders that check TLSA records refuse it; put the certificate back, or pin the key of the one served",
        )
        return
    selector = reading.selector_for(listener)
    for host in dict.fromkeys((*routed_hosts(listener), listener.default, None)):
        if host is not None or not listener.strict_sni:
            yield from _pin(reading, preference, selector, host)


def _pin(reading: Reading, preference: Preference, selector: Selector, host: str | None) -> Iterator[KeyMessage]:
    """What clients of one name, or without one, would be served against the pin, or for its sake."""
    selection = selector.select(host, strict=host is not None)
    if selection is None:
        return  # which is warned of as a host that no certificate covers
    one, who = selection.certificate, host or "a client without server name"
    if not preference.is_pinned(one):
        yield (
            "pin",
            f"{who} is served certificate {one.fingerprint[:16]}, since none with a pinned key is for that; senders "
            "that check TLSA records refuse it: get one with a pinned key, or pin this one's as well",
        )
    elif not one.is_valid(reading.now):
        validity = f"valid from {iso(one.not_before)} to {iso(one.not_after)}"
        yield (
            "pin",
            f"{who} is served certificate {one.fingerprint[:16]}, {validity}, for its pinned key; renew it with the "
            "same key",
        )
