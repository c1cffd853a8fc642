from __future__ import annotations

import functools
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.client_hello import CAP, REASONS, ClientHello, ClientHelloError, ClientHelloReader
from tests.support import client_hellos as hellos

Outcome = ClientHello | tuple[str, int | None, str] | None


def outcome(pieces: list[bytes]) -> Outcome:
    """What the pieces come to, fed in order; checks on the way what must hold for every input."""
    reader, fed = ClientHelloReader(), b""
    for piece in pieces:
        fed += piece
        try:
            hello = reader.feed(piece)
        except ClientHelloError as caught:
            error = caught
            break
        assert reader.received == fed
        if hello is not None:
            use(hello)
            return hello
        assert len(fed) <= CAP
    else:
        return None
    assert error.reason in REASONS
    assert error.alert is None or 0 < error.alert < 256
    assert reader.received == fed[:CAP]
    return error.reason, error.alert, str(error)


def use(hello: ClientHello) -> None:
    """Whatever was accepted must be fit for use."""
    assert 0 <= hello.key_types <= 63
    assert len(hello.ja4()) == 36
    assert hello.server_name is None or hello.server_name.isascii()


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


@functools.cache
def real_ones() -> tuple[bytes, ...]:
    return hellos.from_stdlib(alpn=("h2",)), hellos.from_pyopenssl(alpn=(b"imap",)), hellos.chrome()


def same_however_cut(raw: bytes, places: list[int]) -> None:
    """Segments do not matter; only what is told of bytes that are not TLS may depend on how many have come."""
    whole, pieces = outcome([raw]), outcome(cut(raw, places))
    if isinstance(whole, tuple) and isinstance(pieces, tuple):
        assert whole[:2] == pieces[:2]
    else:
        assert whole == pieces


places_ = st.lists(st.integers(0, 1 << 16), max_size=6)


@settings(deadline=None)
@given(st.binary(max_size=400), places_)
def test_arbitrary_bytes_raise_nothing_but_client_hello_errors(raw: bytes, places: list[int]) -> None:
    same_however_cut(raw, places)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=400), st.integers(1, 50), places_)
def test_arbitrary_handshake_bytes_in_records_raise_nothing_else(body: bytes, size: int, places: list[int]) -> None:
    same_however_cut(hellos.records(b"\x01" + hellos.vector(body, 3), size), places)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 10, 13, 16, 43, 21, 0x0A0A]), st.binary(max_size=20)), max_size=6))
def test_arbitrary_extension_content_raises_nothing_else(extensions: list[tuple[int, bytes]]) -> None:
    same_however_cut(hellos.records(hellos.message(extensions)), [7, 50])


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_arbitrary_server_names_give_a_host_name_or_a_client_hello_error(name: bytes) -> None:
    result = outcome([hellos.records(hellos.message([hellos.server_name(name)]))])
    assert isinstance(result, ClientHello) or (result is not None and result[1] in (50, 112))


@given(
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
    places_,
)
@settings(deadline=None, max_examples=300)
def test_mutated_real_client_hellos_raise_nothing_else(
    which: int, changes: list[tuple[int, int]], in_header: bool, places: list[int]
) -> None:
    raw = bytearray(real_ones()[which])
    for place, value in changes:
        raw[place % (120 if in_header else len(raw))] = value
    same_however_cut(bytes(raw), places)


@settings(deadline=None)
@given(st.integers(0, 2), st.lists(st.integers(1, 300), min_size=1, max_size=12), places_)
def test_real_client_hellos_are_the_same_in_any_records_and_segments(
    which: int, sizes: list[int], places: list[int]
) -> None:
    raw = real_ones()[which]
    handshake, framed, at = hellos.message_of(raw), b"", 0
    for size in sizes:
        if at < len(handshake):
            framed += hellos.record(handshake[at : at + size])
            at += size
    if at < len(handshake):
        framed += hellos.records(handshake[at:])
    assert isinstance(outcome([framed]), ClientHello)
    assert outcome(cut(framed, places)) == outcome([raw])


@given(st.binary(min_size=1, max_size=300), st.integers(500, 70000))
@settings(deadline=None, max_examples=30)
def test_endless_records_end_at_the_cap(fragment: bytes, step: int) -> None:
    raw = hellos.record(b"\x01\x00\xff\x00") + hellos.record(fragment) * (CAP // len(fragment) + 1)
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    result = outcome(pieces)
    assert isinstance(result, ClientHello) or (
        result is not None and result[0] in ("client_hello_too_large", "malformed_client_hello")
    )
