"""What all conversations with mail servers have in common."""

from __future__ import annotations

import pytest

from proxy.starttls.conversation import TurnedAway
from proxy.starttls.opening import Plan
from proxy.starttls.protocols import PROTOCOLS


@pytest.mark.parametrize(
    ("name", "greeting"),
    [
        ("smtp", b"421-busy\r\n421 4.3.2 later\r\n"),
        ("smtp", b"554 5.7.1 not you\r\n"),
        ("imap", b"* BYE Too many connections\r\n"),
        ("pop3", b"-ERR [IN-USE] Too many connections\r\n"),
        ("sieve", b'BYE "Too many connections"\r\n'),
        ("sieve", b'NO "not you"\r\n'),
    ],
)
def test_a_server_that_has_a_refusal_for_a_greeting_has_it_for_the_client(name: str, greeting: bytes) -> None:
    with pytest.raises(TurnedAway) as caught:
        PROTOCOLS[name].opening(Plan("me")).receive(greeting)
    assert caught.value.words == greeting
