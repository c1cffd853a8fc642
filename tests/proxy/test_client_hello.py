from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.client_hello import CAP, ClientHello, ClientHelloError, ClientHelloReader, read_at_once
from tests.support import client_hellos as hellos
from tests.support.client_hello_reading import REAL, failure, feed_in_steps, read
from tests.support.client_hellos import TLS_1_3, message, record, records


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest) -> bytes:
    return REAL[request.param]()


def test_any_two_segments_give_the_same_client_hello(real: bytes) -> None:
    whole = read(real)
    for at in range(1, len(real)):
        reader = ClientHelloReader()
        assert reader.feed(real[:at]) is None
        assert reader.received == real[:at]
        assert reader.feed(real[at:]) == whole
        assert reader.received == real


def test_any_two_records_give_the_same_client_hello(real: bytes) -> None:
    whole, handshake = read(real), hellos.message_of(real)
    for at in range(1, len(handshake)):
        raw = record(handshake[:at]) + record(handshake[at:])
        reader = ClientHelloReader()
        assert reader.feed(raw) == whole
        assert reader.received == raw


def test_any_two_records_in_any_two_segments_give_the_same_client_hello() -> None:
    handshake = message([hellos.server_name(b"a.example"), hellos.versions(TLS_1_3)])
    whole = read(records(handshake))
    for cut in range(1, len(handshake)):
        raw = record(handshake[:cut]) + record(handshake[cut:])
        for at in range(1, len(raw)):
            reader = ClientHelloReader()
            assert reader.feed(raw[:at]) is None
            assert reader.feed(raw[at:]) == whole


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_tiny_records_fed_byte_by_byte_give_the_same_client_hello(real: bytes, size: int) -> None:
    raw = records(hellos.message_of(real), size)
    reader = ClientHelloReader()
    for at in range(len(raw) - 1):
        assert reader.feed(raw[at : at + 1]) is None
    assert reader.feed(raw[-1:]) == read(real)
    assert reader.received == raw


def outcome(step: Callable[[], ClientHello | None]) -> object:
    try:
        return step()
    except ClientHelloError as error:
        return error.reason, error.alert, str(error)


def test_what_lies_in_one_record_is_read_at_once(real: bytes) -> None:
    assert read_at_once(real) == read(real)
    assert read_at_once(real + b"what follows") == read(real)
    for at in range(len(real)):
        assert read_at_once(real[:at]) is None


@given(st.data())
def test_read_at_once_says_what_the_reader_says_or_leaves_it_to_it(data: st.DataObject) -> None:
    raw = bytearray(REAL[data.draw(st.sampled_from(sorted(REAL)))]())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 12)) | st.integers(0, len(raw) - 1))] = data.draw(
            st.integers(0, 255)
        )
    first = bytes(raw) + data.draw(st.binary(max_size=10))
    at_once = outcome(lambda: read_at_once(first))
    assert at_once is None or at_once == outcome(lambda: ClientHelloReader().feed(first))


def test_bytes_behind_the_client_hello_stay_in_received() -> None:
    alone = hellos.from_stdlib()
    raw = alone + record(b"early data", 23) + bytes(CAP)
    reader = ClientHelloReader()
    assert reader.feed(raw) == read(alone)
    assert reader.received == raw


def test_an_empty_feed_changes_nothing() -> None:
    reader, raw = ClientHelloReader(), hellos.chrome()
    assert reader.feed(b"") is None
    assert reader.feed(raw[:7]) is None
    assert reader.feed(b"") is None
    assert reader.feed(raw[7:]) == read(raw)


def test_a_reader_that_has_ended_takes_no_more_bytes() -> None:
    done, failed = ClientHelloReader(), ClientHelloReader()
    done.feed(hellos.chrome())
    with pytest.raises(ClientHelloError):
        failed.feed(b"\0")
    for reader in (done, failed):
        with pytest.raises(RuntimeError, match="TLS engine"):
            reader.feed(b"x")


@pytest.mark.parametrize(
    ("first", "sure_after"),
    [
        (b"GET / HTTP/1.1\r\n", 4),
        (b"POST /", 5),
        (b"PUT /", 4),
        (b"HEAD /", 5),
        (b"OPTIONS *", 8),
        (b"CONNECT a:443", 8),
        (b"PRI * HTTP/2.0\r\n", 4),
        (b"DELETE /", 7),
    ],
)
def test_plain_http_is_told_as_soon_as_the_method_is_complete(first: bytes, sure_after: int) -> None:
    reader = ClientHelloReader()
    for at in range(sure_after - 1):
        assert reader.feed(first[at : at + 1]) is None
    with pytest.raises(ClientHelloError) as caught:
        reader.feed(first[sure_after - 1 : sure_after])
    assert (caught.value.reason, caught.value.alert) == ("plain_http", None)
    assert failure(first).reason == "plain_http"


@pytest.mark.parametrize("version", [b"\x00\x02", b"\x03\x01", b"\x03\x03"])
def test_an_sslv2_client_hello_is_named(version: bytes) -> None:
    assert failure(b"\x80\x2e\x01" + version + bytes(41)).reason == "sslv2"


@pytest.mark.parametrize(
    "first",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"EHLO client\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"get / http/1.1",
        b"GETX /",
        b"\0",
        b"\x16\x02\x01\x00\x10",
        b"\x17\x02",
        b"\x80\x2e\x02",
        b"\x80\x2e\x01\x01",
        b"\x80\x2e\x01\x00\x03",
        b"\xff\xff\xff",
        b"\x03\x00\x00\x13\x0e\xe0",
    ],
)
def test_anything_else_is_not_tls_and_gets_no_answer(first: bytes) -> None:
    error = failure(first)
    assert (error.reason, error.alert) == ("not_tls", None)


@pytest.mark.parametrize("content_type", [20, 21, 23, 24])
def test_another_record_type_is_an_unexpected_message(content_type: int) -> None:
    handshake = message([])
    for raw in (record(b"\x02\x28", content_type), record(handshake[:9]) + record(handshake[9:], content_type)):
        error = failure(raw)
        assert (error.reason, error.alert) == ("malformed_client_hello", 10)


def test_another_handshake_message_is_unexpected() -> None:
    error = failure(record(b"\x02" + message([])[1:]))
    assert (error.reason, error.alert) == ("malformed_client_hello", 10)


def test_the_minor_version_of_a_record_is_ignored_and_the_major_is_not() -> None:
    handshake = message([])
    assert read(record(handshake, version=0x03FF)) == read(record(handshake, version=0x0300))
    assert failure(record(handshake[:9]) + record(handshake[9:], version=0x0201)).alert == 70


def test_an_empty_record_is_refused() -> None:
    handshake = message([])
    for raw in (record(b""), record(handshake[:9]) + record(b"") + record(handshake[9:])):
        error = failure(raw)
        assert (error.reason, error.alert) == ("malformed_client_hello", 50)


def test_a_record_of_16384_bytes_is_read_and_a_longer_one_overflows() -> None:
    handshake = message([(21, bytes(20000))])
    assert read(records(handshake)).extensions == (21,)
    error = failure(record(handshake[:16385]))
    assert (error.reason, error.alert) == ("malformed_client_hello", 22)


def padded(size: int) -> bytes:
    """A handshake message of exactly `size` bytes."""
    return message([(21, bytes(size - len(message([(21, b"")]))))])


def test_a_message_that_fits_into_64_kib_with_its_records_is_read() -> None:
    largest = CAP - 4 * 5
    raw = records(padded(largest))
    assert len(raw) == CAP
    assert read(raw).extensions == (21,)
    assert failure(records(padded(largest + 1))).reason == "client_hello_too_large"


def test_a_message_that_announces_more_than_64_kib_is_refused_at_its_first_record() -> None:
    error = failure(record(b"\x01" + (CAP - 3).to_bytes(3)))
    assert (error.reason, error.alert) == ("client_hello_too_large", 22)


def test_records_that_cost_more_than_64_kib_are_refused() -> None:
    raw = records(padded(11000), 1)
    assert failure(raw).reason == "client_hello_too_large"


@pytest.mark.parametrize("left", range(7))
def test_records_that_leave_no_room_for_another_are_refused_at_their_end(left: int) -> None:
    handshake = padded(CAP - 20)
    raw = records(handshake[: 3 * 16384])
    raw += record(handshake[3 * 16384 :][: CAP - left - len(raw) - 5])
    assert len(raw) == CAP - left
    if left == 0:
        assert read(raw).extensions == (21,)
    elif left < 6:
        assert failure(raw).reason == "client_hello_too_large"
    else:
        assert ClientHelloReader().feed(raw) is None


def test_received_stays_within_64_kib_until_the_client_hello_is_there() -> None:
    raw = records(padded(11000), 1)
    for step in (1, 1000, CAP, len(raw)):
        reader = ClientHelloReader()
        with pytest.raises(ClientHelloError):
            feed_in_steps(reader, raw, step)
        assert len(reader.received) <= CAP


class CountingBytes(bytearray):
    """Counts the bytes that are copied out of it."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        self.copied += 1 if isinstance(value, int) else len(value)
        return value

    def __bytes__(self) -> bytes:
        self.copied += len(self)
        return bytes(memoryview(self))


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python the call runs."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("fragment", [1, 7, 16384])
def test_the_cost_of_single_bytes_is_linear(fragment: int) -> None:
    costs = {}
    for size in (2500, 5000, 10000):
        raw = records(padded(size), fragment)
        reader = ClientHelloReader()
        reader._raw, reader._message = CountingBytes(), CountingBytes()

        def feed_all(raw: bytes = raw, reader: ClientHelloReader = reader) -> None:
            for at in range(len(raw)):
                reader.feed(raw[at : at + 1])

        costs[size] = lines_run(feed_all)
        assert reader._finished
        assert reader._raw.copied + reader._message.copied <= 6 * len(raw)
    if fragment == 16384:
        assert costs[10000] <= 8 * len(records(padded(10000)))  # lines a byte: nothing is parsed before it is there
    assert costs[5000] <= 2.1 * costs[2500]
    assert costs[10000] <= 2.1 * costs[5000]
