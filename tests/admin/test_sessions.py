from __future__ import annotations

from admin.console import sessions
from admin.console.sessions import IDLE, LONGEST, MISTAKES, MOST, MOST_ADDRESSES, PAUSE, Sessions

TOKEN = "the-token-of-this-test"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def signed_in(one: Sessions) -> str:
    cookie = one.sign_in(TOKEN, "192.0.2.1")
    assert cookie is not None
    return cookie


def test_the_token_opens_a_session_and_nothing_else_does() -> None:
    one = Sessions(TOKEN, Clock())
    session = one.get(signed_in(one))
    assert session is not None
    assert session.has_sent(session.csrf)
    assert not session.has_sent("")
    assert not session.has_sent("ü")
    assert one.sign_in("wrong", "192.0.2.1") is None
    assert one.sign_in("ü", "192.0.2.1") is None
    for cookie in (None, "", "x", TOKEN):
        assert one.get(cookie) is None


def test_sessions_end_when_they_are_idle_old_or_signed_out_of() -> None:
    clock = Clock()
    one = Sessions(TOKEN, clock)
    idle, old, left = (signed_in(one) for _ in range(3))
    one.sign_out(left)
    assert one.get(left) is None
    began = clock.now
    while clock.now < began + LONGEST:
        assert one.get(old) is not None
        clock.now += IDLE - 1
    assert one.get(old) is None
    assert one.get(idle) is None


def test_a_few_wrong_tokens_and_no_more_are_looked_at_from_that_address_for_a_while() -> None:
    clock = Clock()
    one = Sessions(TOKEN, clock)
    for _ in range(MISTAKES):
        assert one.wait("192.0.2.1") == 0
        assert one.sign_in("wrong", "192.0.2.1") is None
    assert one.wait("192.0.2.1") == PAUSE
    assert one.sign_in(TOKEN, "192.0.2.1") is None
    assert one.sign_in(TOKEN, "192.0.2.2") is not None
    clock.now += PAUSE
    assert one.wait("192.0.2.1") == 0
    assert one.sign_in(TOKEN, "192.0.2.1") is not None


def test_what_is_remembered_is_bounded() -> None:
    clock = Clock()
    one = Sessions(TOKEN, clock)
    cookies = []
    for _ in range(MOST + 1):
        clock.now += 1
        cookies.append(signed_in(one))
    assert one.get(cookies[0]) is None
    assert one.get(cookies[1]) is not None
    for number in range(MOST_ADDRESSES + 10):
        one.sign_in("wrong", f"address {number}")
    assert len(one._mistakes) <= MOST_ADDRESSES
    assert sessions.MOST == MOST
