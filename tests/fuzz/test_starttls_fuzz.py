"""Whatever a client or a mail server says: answers or an error in words, within caps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.starttls.conversation import CAP, LINE_CAP, QUOTED, Conversation, ConversationError, Stage
from proxy.starttls.dialogue import MAX_COMMANDS, MAX_ERRORS, Dialogue, Turn, Verdict
from proxy.starttls.opening import Introduction, Plan
from proxy.starttls.probe import CAPABILITIES_CAP, Probed
from proxy.starttls.protocol import MailProtocol
from proxy.starttls.protocols import PROTOCOLS
from tests.support.mail import NAME, Outcome, cut

COMMANDS = {
    "smtp": [
        b"EHLO me",
        b"HELO me",
        b"STARTTLS",
        b"MAIL FROM:<a@b>",
        b"AUTH PLAIN",
        b"NOOP",
        b"QUIT",
        b"DATA",
        b"HELP",
    ],
    "imap": [b"a STARTTLS", b"a LOGIN {3}", b"a LOGIN {3+}", b"a ID {3}", b"a ID NIL", b"a CAPABILITY", b"a LOGOUT"],
    "pop3": [b"CAPA", b"STLS", b"USER a", b"QUIT", b"STAT"],
    "sieve": [b"CAPABILITY", b"STARTTLS", b'NOOP "a"', b"NOOP {3+}", b"NOOP {3}", b"AUTHENTICATE", b"LOGOUT"],
}
ANSWERS = {
    "smtp": [b"220 x ESMTP", b"220-x", b"250 x", b"250-STARTTLS", b"250-XCLIENT ADDR PORT", b"250 SIZE 1", b"554 no"],
    "imap": [
        *(b"* OK [CAPABILITY IMAP4rev1 ID] hi", b"* OK hi", b"* PREAUTH", b"* BYE", b"* ID ({3}", b"+ go"),
        *(b"S OK go", b"I OK done", b"C OK", b"C NO", b"* CAPABILITY IMAP4rev1"),
    ],
    "pop3": [b"+OK [XCLIENT] hi <1@x>", b"+OK", b"-ERR no", b"TOP", b"."],
    "sieve": [b'"SIEVE" "a"', b'"STARTTLS"', b'"XCLIENT"', b'"SIEVE" {3}', b"OK", b'OK "hi"', b"BYE", b'NO "x"'],
}
LONGEST_COMMAND = 8192  # bytes, of every protocol's cap
PLANS = [
    Plan("me"),
    Plan("me", starttls=True),
    Plan("me", starttls=True, introduction=Introduction(("2001:db8::1", 1), ("192.0.2.1", 2), "id", "a.example", True)),
    Plan("me", introduction=Introduction(("192.0.2.1", 1), ("192.0.2.1", 2), "id", None, False)),
]
places_ = st.lists(st.integers(0, 1 << 16), max_size=8)
names_ = pytest.mark.parametrize("name", list(PROTOCOLS))


def speech(vocabulary: list[bytes]) -> st.SearchStrategy[bytes]:
    """Lines of a protocol, with what spoils them."""
    endings = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"", b" x\r\n", b"\0\r\n"])
    lines = st.tuples(st.sampled_from(vocabulary), endings).map(b"".join)
    filling = st.sampled_from([b"x", b" ", b"\r", b"{1+}\r\n", b"\xff"])
    noise = st.one_of(st.binary(max_size=12), st.builds(lambda one, times: one * times, filling, st.integers(0, 9000)))
    return st.lists(st.one_of(lines, lines, noise), max_size=20).map(b"".join)


def listen(dialogue: Dialogue, pieces: list[bytes]) -> tuple[Turn, bytes]:
    """What the pieces come to, all answers together, and what was left unsaid."""
    answers, turn = b"", Turn(b"")
    for number, piece in enumerate(pieces):
        turn = dialogue.receive(piece)
        answers += turn.answer
        if turn.verdict is not Verdict.GO_ON:
            return turn._replace(answer=answers), b"".join(pieces[number + 1 :])
        assert dialogue.held <= LONGEST_COMMAND
    return turn._replace(answer=answers), b""


def begin(protocol: MailProtocol, require_tls: bool) -> Dialogue:
    return protocol.dialogue(protocol.words(None, NAME), require_tls=require_tls)


def is_proper(turn: Turn) -> None:
    """Answers are whole lines of printable text, and not many."""
    assert not turn.answer or turn.answer.endswith(b"\r\n")
    assert all(line.isprintable() for line in turn.answer.decode().split("\r\n"))
    assert len(turn.answer) < 1000 * (MAX_COMMANDS + MAX_ERRORS) + 20 * LONGEST_COMMAND
    assert turn.verdict is Verdict.PLAIN or not turn.hello + turn.rest


@pytest.mark.parametrize(("name", "require_tls"), [*((name, True) for name in PROTOCOLS), ("smtp", False)])
@settings(deadline=None)
@given(data=st.data())
def test_whatever_a_client_says_is_answered_and_where_its_bytes_are_cut_changes_nothing(
    name: str, require_tls: bool, data: st.DataObject
) -> None:
    said, places = data.draw(speech(COMMANDS[name])), data.draw(places_)
    whole, unsaid = listen(begin(PROTOCOLS[name], require_tls), [said])
    assert unsaid == b""
    is_proper(whole)
    pieces, unsaid = listen(begin(PROTOCOLS[name], require_tls), cut(said, places))
    if whole.verdict is Verdict.INJECTION and pieces.verdict is Verdict.TLS:
        assert unsaid  # it came behind the command that begins TLS: in later bytes that is for TLS to refuse
    elif whole.verdict is Verdict.PLAIN:
        assert pieces._replace(rest=pieces.rest + unsaid) == whole
    else:
        assert pieces == whole


def serve(conversation: Conversation[Outcome], pieces: list[bytes]) -> None:
    """Play a server that does not listen; ends when the conversation does."""
    for piece in pieces:
        if conversation.stage is Stage.SECURING:
            conversation.secured()
        if conversation.stage is not Stage.TALKING:
            return
        try:
            conversation.receive(piece)
        except ConversationError as caught:
            error = caught
            break
        assert conversation.held <= LINE_CAP
    else:
        assert conversation.awaited
        return
    assert conversation.stage.value == "failed"
    assert str(error).isprintable()
    assert len(str(error)) < 100 + 10 * QUOTED


@names_
@settings(deadline=None)
@given(data=st.data())
def test_whatever_a_server_says_is_understood_or_an_error_in_words(name: str, data: st.DataObject) -> None:
    said = data.draw(speech(ANSWERS[name]))
    pieces = cut(said, data.draw(places_)) if data.draw(st.booleans()) else said.splitlines(keepends=True)
    plans = PLANS if name in ("smtp", "imap") else PLANS[:2]
    serve(PROTOCOLS[name].opening(data.draw(st.sampled_from(plans))), pieces)
    probe = PROTOCOLS[name].probe("me", starttls=data.draw(st.booleans()))
    serve(probe, pieces)
    if probe.stage is Stage.DONE:
        is_fit_to_be_told(PROTOCOLS[name], probe.outcome)


def is_fit_to_be_told(protocol: MailProtocol, probed: Probed) -> None:
    """What a server says of itself makes words that a client can be told, of a size that can be repeated."""
    words = protocol.words(probed, NAME)
    assert len(words.greeting) < CAPABILITIES_CAP + 1000
    assert words.greeting.endswith(b"\r\n")
    if protocol.name != "sieve":  # which may have anything in a literal
        assert all(line.isprintable() for line in words.greeting.decode("ascii").split("\r\n"))
        assert all(line.isprintable() for line in words.capabilities.decode("ascii").split("\r\n"))


@names_
@pytest.mark.parametrize(
    "endless", [b"x", b"220-x\r\n", b"* x\r\n", b'"x" "y"\r\n', b"* {1000}\r\n", b"\r\n", b"+OK\r\nx"]
)
def test_a_server_that_never_ends_is_not_listened_to_forever(name: str, endless: bytes) -> None:
    with pytest.raises(ConversationError):
        say_forever(PROTOCOLS[name].opening(Plan("me")), endless)
    with pytest.raises(ConversationError):
        say_forever(PROTOCOLS[name].probe("me"), endless)


def say_forever(conversation: Conversation[Outcome], words: bytes) -> None:
    for _ in range(CAP // len(words) + 1):
        conversation.receive(words)
