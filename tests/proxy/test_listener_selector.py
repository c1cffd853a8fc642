from __future__ import annotations

import asyncio
import base64
import logging

import pytest

from certstore.certified_key import CertifiedKey
from certstore.messages import Change
from certstore.replica import Replica
from config.model import ListenerConfig
from proxy.listener_selector import PinnedSelector, selector_of
from tests.support.certified_keys import NOW, certified_key, pin_of, with_public_key

MX = "mx.example.com"
OLD = with_public_key(certified_key("old", MX), "old")
NEW = with_public_key(certified_key("new", MX, trusted=True), "new")


def listener(default: str | None = None, *pins: str) -> ListenerConfig:
    pin = tuple(base64.b64encode(pin_of(one)).decode() for one in pins)
    return ListenerConfig(name="mx", bind=(":25",), default=default, pin=pin, backend="127.0.0.1:25")


def take_in(replica: Replica, number: int, *certificates: CertifiedKey, default: str | None = None) -> None:
    asyncio.run(replica.take_in(Change(number, True, True, list(certificates), [], default, None)))


def test_a_listener_that_prefers_nothing_has_the_replicas_own_selector() -> None:
    replica = Replica(clock=lambda: NOW)
    assert selector_of(listener(), replica) is replica.selector
    assert not isinstance(selector_of(listener(MX), replica), PinnedSelector)
    assert isinstance(selector_of(listener(None, "old"), replica), PinnedSelector)


def test_a_selector_of_a_listener_is_kept_up_with_what_the_replica_takes_in() -> None:
    replica = Replica(clock=lambda: NOW)
    early = selector_of(listener(None, "old"), replica)
    take_in(replica, 1, NEW, default=MX)
    for selector in (early, selector_of(listener(None, "old"), replica)):
        selection = selector.select(None)
        assert selection is not None
        assert selection.certificate == NEW
    early.disregard(NEW.fingerprint)
    assert early.select(MX) is None
    assert replica.selector.select(MX) is not None
    take_in(replica, 2, OLD, NEW, default=MX)
    selection = early.select(MX)
    assert selection is not None
    assert selection.certificate == OLD


def test_what_has_no_pinned_key_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica(clock=lambda: NOW)
    selector = selector_of(listener(None, "old"), replica)
    take_in(replica, 1, NEW)
    with caplog.at_level(logging.WARNING, "snigate.selection"):
        for _ in range(3):
            selector.select(MX)
    (message,) = caplog.messages
    assert f"listener mx serves certificate {NEW.fingerprint[:16]}" in message
    take_in(replica, 2, OLD, NEW)
    selector.select(MX)
    assert caplog.messages == [message]
