from __future__ import annotations

from admin.console.sessions import CODE_LIFE, IDLE, LONGEST, MOST, Sessions, link_code
from admin.peer import UNKNOWN

TOKEN, CODE, OWNER = "the-token-of-this-test", link_code("the-token-of-this-test", 1.5), "uid 1000"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def signed_in(one: Sessions) -> str:
    cookie = one.sign_in(TOKEN, OWNER)
    assert cookie is not None
    return cookie


def test_the_token_opens_a_session_and_nothing_else_does() -> None:
    one = Sessions(TOKEN, CODE)
    session = one.get(signed_in(one), OWNER)
    assert session is not None
    assert session.has_sent(session.csrf)
    assert not session.has_sent("")
    assert not session.has_sent("ü")
    for wrong in ("wrong", "ü", "\udcff", "", CODE[:-1]):
        assert one.sign_in(wrong, OWNER) is None
    for cookie in (None, "", "x", TOKEN):
        assert one.get(cookie, OWNER) is None


def test_a_session_is_for_who_began_it() -> None:
    one = Sessions(TOKEN)
    cookie = signed_in(one)
    assert one.get(cookie, "uid 1001") is None
    assert one.get(cookie, "unknown") is None
    assert one.get(cookie, OWNER) is not None


def test_the_links_code_is_good_once_and_not_for_long() -> None:
    clock = Clock()
    one = Sessions(TOKEN, CODE, clock)
    assert one.sign_in(CODE, OWNER) is not None
    assert one.sign_in(CODE, OWNER) is None
    other = Sessions(TOKEN, CODE, clock)
    clock.now += CODE_LIFE
    assert other.sign_in(CODE, OWNER) is None
    assert other.sign_in(TOKEN, OWNER) is not None


def test_without_a_code_the_empty_one_is_none() -> None:
    assert Sessions(TOKEN).sign_in("", OWNER) is None


def test_each_start_has_a_code_of_its_own_that_says_nothing_of_the_token() -> None:
    assert link_code(TOKEN, 1.5) == CODE
    assert len({link_code(TOKEN, 1.5), link_code(TOKEN, 1.6), link_code("another", 1.5)}) == 3
    assert TOKEN not in CODE


def test_sessions_end_when_they_are_idle_old_or_signed_out_of() -> None:
    clock = Clock()
    one = Sessions(TOKEN, clock=clock)
    idle, old, left = (signed_in(one) for _ in range(3))
    one.sign_out(left)
    assert one.get(left, OWNER) is None
    began = clock.now
    while clock.now < began + LONGEST:
        assert one.get(old, OWNER) is not None
        clock.now += IDLE - 1
    assert one.get(old, OWNER) is None
    assert one.get(idle, OWNER) is None


def test_what_is_remembered_is_bounded() -> None:
    clock = Clock()
    one = Sessions(TOKEN, clock=clock)
    cookies = []
    for _ in range(MOST + 1):
        clock.now += 1
        cookies.append(signed_in(one))
    assert one.get(cookies[0], OWNER) is None
    assert one.get(cookies[1], OWNER) is not None


def test_the_code_is_good_in_one_process_alone() -> None:
    left = [True]

    def spend() -> bool:
        return bool(left) and left.pop()

    assert Sessions(TOKEN, CODE, spend=spend).sign_in(CODE, OWNER) is not None
    assert Sessions(TOKEN, CODE, spend=spend).sign_in(CODE, OWNER) is None
    assert not Sessions(TOKEN, CODE, code_life=-1).accepts(CODE)


def test_who_is_not_known_has_no_session() -> None:
    one = Sessions(TOKEN, CODE)
    assert one.sign_in(TOKEN, UNKNOWN) is None
    cookie = signed_in(one)
    assert one.knows(cookie)
    assert one.get(cookie, UNKNOWN) is None
