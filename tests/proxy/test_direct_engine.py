"""The engine on a socket, with a client at the far end: direct, detached, and from one to the other."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.direct_engine import DirectEngine
from proxy.leg import reset
from proxy.tls_engine import RECORD, TlsError
from tests.support.engine import MemoryClient, client_context, direct_engine_for, join
from tests.support.key_updates import UpdatingClient
from tests.support.loop import tcp_pair
from tests.support.pki import self_signed

PAIR = self_signed("www.example.com")
JUNK = b"\0" * 4096


class Line:
    """A client, and the engine at the other end of its connection."""

    def __init__(self, client: MemoryClient | None = None) -> None:
        self.far, self.near = tcp_pair()
        self.client = client or MemoryClient(client_context(minimum=SSL.TLS1_3_VERSION))
        self.engine = direct_engine_for(self.near, PAIR)
        self.junk = 0  # bytes that are none of TLS's, and first to arrive
        self.held = b""  # what the socket did not take
        join(self.engine, self.client)
        self.engine.attach()

    def say(self, data: bytes) -> None:
        """Send these bytes to the engine's end."""
        assert self.far.send(data) == len(data)

    def hear(self) -> bytes:
        """What of the stream has come to the client."""
        self.hear_handshake()
        return self.client.read()

    def hear_handshake(self) -> None:
        """Let the client have what has come."""
        with contextlib.suppress(BlockingIOError):
            while data := self.far.recv(1 << 20):
                junk = min(self.junk, len(data))
                self.junk -= junk
                self.client.receive(data[junk:])

    def clog(self) -> None:
        """Send what is none of TLS's, until the socket takes no more."""
        tried = 0
        while tried < 10:  # the kernel goes on making room for a while, up to its next probe of the far end
            tried += 1
            time.sleep(0.03)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.junk += self.near.send(JUNK)
                    tried = 0

    def write(self, data: bytes) -> None:
        """What a leg does."""
        if self.held or not self.engine.direct:
            self.held += self.engine.encode(data)
        elif not self.engine.write(data):
            self.held += self.engine.output()
        self.flush()

    def flush(self) -> None:
        """Send what is held, as far as the socket takes it."""
        with contextlib.suppress(BlockingIOError):
            while self.held:
                self.held = self.held[self.near.send(self.held) :]

    def read(self) -> bytes:
        """What of the stream has come to the engine's end; as a leg reads."""
        came = b""
        while self.engine.direct and not self.engine.ended:
            data = self.engine.read()
            assert data is not None
            if not data:
                return came
            came += data
        with contextlib.suppress(BlockingIOError):
            while data := self.near.recv(1 << 18):
                came += self.engine.decode(data)
                while self.engine.more:
                    came += self.engine.decode(b"")
        return came


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    close(made)


def close(line: Line) -> None:
    line.near.close()
    line.far.close()


def test_a_short_exchange_takes_place_on_the_socket() -> None:
    line = Line()
    assert line.engine.direct
    line.say(line.client.write(b"question"))
    assert line.read() == b"question"
    line.write(b"answer")
    assert line.hear() == b"answer"
    assert line.engine.direct
    assert line.engine.output() == b""
    close(line)


def test_openssl_gets_no_socket_before_the_handshake_is_done_nor_in_tls_1_2() -> None:
    far, near = tcp_pair()
    engine = direct_engine_for(near, PAIR)
    assert not engine.attach()
    join(engine, MemoryClient(client_context(maximum=SSL.TLS1_2_VERSION)))
    assert not engine.attach()
    engine.slim()
    assert not engine.direct
    far.close()
    near.close()


def test_a_whole_record_detaches_the_engine_and_the_rest_is_read_by_the_buffer() -> None:
    line = Line()
    data = bytes(index % 251 for index in range(3 * RECORD + 7))
    line.say(line.client.write(data))
    assert bytes(line.engine.read() or b"") == data[:RECORD]
    assert not line.engine.direct
    assert line.read() == data[RECORD:]
    close(line)


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 40])
def test_a_record_may_come_in_part_before_the_engine_changes_over(cut: int) -> None:
    line = Line()
    record = line.client.write(b"in two parts, of which the second comes later")
    line.say(record[:cut])
    assert line.engine.read() == b""
    line.engine.detach()
    line.say(record[cut:])
    assert line.read() == b"in two parts, of which the second comes later"
    again = line.client.write(b"and the other way round, which is the same again")
    line.say(again[:cut])
    assert line.read() == b""
    line.engine.slim()
    assert line.engine.direct
    line.say(again[cut:])
    assert line.read() == b"and the other way round, which is the same again"
    close(line)


def test_what_the_socket_does_not_take_is_given_as_output_and_follows_in_order() -> None:
    line = Line()
    written = 0
    while not line.held:
        line.write(written.to_bytes(2) * 4000)
        written += 1
    assert not line.engine.direct
    line.write(b"end")
    came = b""
    while not came.endswith(b"end"):
        came += line.hear()
        line.flush()
    assert came == b"".join(number.to_bytes(2) * 4000 for number in range(written)) + b"end"
    close(line)


def test_a_close_that_the_socket_does_not_take_is_given_as_output() -> None:
    line = Line()
    line.clog()
    line.held = bytes(line.engine.close())
    assert line.held
    while line.held:
        line.hear()
        line.flush()
    line.hear()
    assert line.client.closed
    close(line)


def test_a_close_is_sent_at_once_and_reading_goes_on() -> None:
    line = Line()
    assert line.engine.close() == b""
    assert line.hear() == b""
    assert line.client.closed
    line.say(line.client.write(b"still here"))
    assert line.read() == b"still here"
    close(line)


def test_a_close_notify_is_an_end_and_a_bare_fin_is_none() -> None:
    line = Line()
    line.say(line.client.write(b"last words") + line.client.close())
    assert bytes(line.engine.read() or b"") == b"last words"
    assert not line.engine.ended
    assert line.engine.read() == b""
    assert line.engine.ended
    line.write(b"the answer")
    assert line.hear() == b"the answer"
    close(line)
    cut = Line()
    cut.far.shutdown(socket.SHUT_WR)
    assert cut.engine.read() is None
    assert not cut.engine.ended
    close(cut)


def test_a_reset_is_told_by_reads_writes_and_closes(line: Line) -> None:
    reset(line.far)
    with pytest.raises(ConnectionResetError):
        line.engine.read()
    other, third = Line(), Line()
    reset(other.far)
    with pytest.raises(ConnectionResetError):
        other.engine.write(b"hello")
    reset(third.far)
    with pytest.raises(ConnectionResetError):
        third.engine.close()
    close(other)
    close(third)


def test_a_forged_record_is_a_tls_error_and_the_client_is_told() -> None:
    line = Line()
    forged = bytearray(line.client.write(b"hello"))
    forged[-1] ^= 1
    line.say(bytes(forged))
    with pytest.raises(TlsError, match="bad record mac"):
        line.engine.read()
    with pytest.raises(SSL.Error, match="alert"):
        line.hear()
    close(line)


def test_key_updates_are_read_one_at_a_time_so_that_nobody_can_send_them_for_ever() -> None:
    client = UpdatingClient()
    line = Line(client)
    line.say(client.key_updates(300, b"at last"))
    for _ in range(300):
        assert line.engine.read() == b""
    assert line.engine.read() == b"at last"
    close(line)


def test_an_engine_goes_back_to_its_socket_only_when_nothing_is_left_in_memory(line: Line) -> None:
    line.engine.detach()
    line.engine.receive(line.client.write(b"unread"))
    line.engine.slim()
    assert not line.engine.direct
    assert line.engine.decode(b"") == b"unread"
    line.engine.slim()
    assert line.engine.direct
    assert not line.engine.grown
    line.say(line.client.write(b"directly"))
    assert line.read() == b"directly"


sizes = st.sampled_from((1, 100, 5000, RECORD - 1, RECORD, RECORD + 1, 40_000))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("client writes"), sizes),
        st.tuples(st.just("server writes"), sizes),
        st.tuples(st.sampled_from(("client reads", "server reads", "slim", "flush")), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_both_streams_arrive_whole_however_it_changes_over(steps: list[tuple[str, int]]) -> None:
    line = Line()
    said, answered, asked, heard, late = b"", b"", b"", b"", b""
    for number, (step, size) in enumerate(steps):
        piece = bytes([number]) * size
        if step == "client writes":
            said += piece
            late += line.client.write(piece)
        elif step == "server writes":
            answered += piece
            line.write(piece)
        elif step == "client reads":
            heard += line.hear()
        elif step == "server reads":
            asked += line.read()
        elif step == "slim" and not line.held:
            line.engine.slim()
        line.flush()
        with contextlib.suppress(BlockingIOError):
            late = late[line.far.send(late) :]
    while asked != said or heard != answered:
        before = len(asked), len(heard), len(late), len(line.held)
        with contextlib.suppress(BlockingIOError):
            late = late[line.far.send(late) :]
        line.flush()
        asked += line.read()
        heard += line.hear()
        assert (len(asked), len(heard), len(late), len(line.held)) != before, "nothing moves any more"
    close(line)


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=600))
def test_no_bytes_after_the_handshake_raise_anything_but_a_tls_error(data: bytes) -> None:
    line = Line()
    line.say(data)
    line.far.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TlsError):
        assert line.engine.read() in (b"", None)
    close(line)


def test_its_socket_is_not_its_own(line: Line) -> None:
    engine: DirectEngine = line.engine
    engine.free()
    assert line.near.send(b"open") == 4
