"""The TLS engine against a client in memory: bytes in, bytes out."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.errors import HandshakeError
from proxy.policy import Policy
from proxy.tls_engine import RECORDS_AT_ONCE, TlsEngine, TlsError
from tests.support import client_hellos as hellos
from tests.support.engine import INTERMEDIATE, MemoryClient, client_context, engine_for, join
from tests.support.key_updates import UpdatingClient
from tests.support.pki import self_signed

PAIR = self_signed("www.example.com")
VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
any_version = pytest.mark.parametrize("version", list(VERSIONS))


def joined(version: str = "TLSv1.3") -> tuple[TlsEngine, MemoryClient]:
    number = VERSIONS[version]
    engine, client = engine_for(INTERMEDIATE, PAIR), MemoryClient(client_context(minimum=number, maximum=number))
    join(engine, client)
    client.receive(bytes(engine.output()))
    assert client.read() == b""
    return engine, client


@any_version
@pytest.mark.parametrize("size", [1, 16384, 16385, 1_000_000])
def test_what_one_side_writes_the_other_reads(version: str, size: int) -> None:
    engine, client = joined(version)
    data = bytes(index % 251 for index in range(size))
    engine.receive(client.write(data))
    came = bytes(engine.decode(b""))
    while engine.more:
        came += engine.decode(b"")
    assert came == data
    client.receive(bytes(engine.encode(data)))
    assert client.read() == data


def test_a_write_is_encrypted_whole_and_leaves_no_output_behind() -> None:
    engine, client = joined()
    ciphertext = bytes(engine.encode(bytes(300_000)))
    assert len(ciphertext) > 300_000
    assert engine.output() == b""
    client.receive(ciphertext)
    assert len(client.read()) == 300_000


@any_version
def test_an_engine_that_has_given_back_its_memory_goes_on_where_it_was(version: str) -> None:
    engine, client = joined(version)
    client.receive(bytes(engine.encode(bytes(200_000))))
    assert engine.grown
    part = client.write(b"in two parts")
    engine.receive(part[:7])
    assert engine.decode(b"") == b""
    engine.slim()
    assert not engine.grown
    engine.receive(part[7:] + client.write(b" and one that nobody has read"))
    engine.slim()
    assert engine.decode(b"") == b"in two parts and one that nobody has read"
    client.receive(bytes(engine.encode(b"back")))
    assert client.read() == bytes(200_000) + b"back"


@any_version
@pytest.mark.parametrize("cut", [1, 5, 6, 4000])
def test_much_that_is_read_where_it_lies_leaves_nothing_there(version: str, cut: int) -> None:
    engine, client = joined(version)
    data = bytes(index % 251 for index in range(100_000))
    sent = bytearray(client.write(data))
    came = bytes(engine.decode(memoryview(sent)[:-cut]))
    assert not engine.more
    rest = bytes(sent[-cut:])
    sent[:] = bytes(len(sent))
    assert came + bytes(engine.decode(rest)) == data


def test_much_in_small_records_is_read_in_turns_wherever_it_lay() -> None:
    engine, client = joined()
    data = b"".join(client.write(b"x" * 50) for _ in range(3 * RECORDS_AT_ONCE + 10))
    sent = bytearray(data)
    came = len(engine.decode(memoryview(sent)))
    sent[:] = bytes(len(sent))
    turns = 1
    while engine.more:
        came, turns = came + len(engine.decode(b"")), turns + 1
    assert (came, turns) == (50 * (3 * RECORDS_AT_ONCE + 10), 4)


def test_buffers_of_every_kind_are_taken() -> None:
    engine, client = joined()
    sent = client.write(b"one")
    engine.receive(memoryview(bytearray(sent)))
    assert engine.decode(b"") == b"one"
    client.receive(bytes(engine.encode(memoryview(b"two"))) + engine.encode(bytearray(b"three")))
    assert client.read() == b"twothree"


def test_many_small_records_are_decoded_in_turns() -> None:
    engine, client = joined()
    count = 2 * RECORDS_AT_ONCE + 10
    engine.receive(b"".join([client.write(b"x") for _ in range(count)]))
    turns = [engine.decode(b"")]
    while engine.more:
        turns.append(engine.decode(b""))
    assert [len(one) for one in turns] == [RECORDS_AT_ONCE, RECORDS_AT_ONCE, 10]


@pytest.mark.parametrize("in_place", [False, True])
def test_many_key_updates_are_decoded_in_turns_wherever_they_lie(in_place: bool) -> None:
    engine, client = engine_for(INTERMEDIATE, PAIR), UpdatingClient()
    join(engine, client)
    assert engine.decode(b"") == b""
    updates = client.key_updates(3 * RECORDS_AT_ONCE, b"at last")
    if in_place:
        came = bytes(engine.decode(updates))
    else:
        engine.receive(updates)
        came = bytes(engine.decode(b""))
    turns = 1
    while engine.more:
        assert came == b""
        came += engine.decode(b"")
        turns += 1
    assert came == b"at last"
    assert turns == 4


@any_version
def test_a_record_that_comes_byte_by_byte_is_read_when_it_is_whole(version: str) -> None:
    engine, client = joined(version)
    sent = client.write(b"hello")
    for byte in sent[:-1]:
        engine.receive(bytes([byte]))
        assert engine.decode(b"") == b""
    engine.receive(sent[-1:])
    assert engine.decode(b"") == b"hello"
    assert not engine.ended


@any_version
def test_close_notify_ends_reading_behind_what_came_before_it(version: str) -> None:
    engine, client = joined(version)
    engine.receive(client.write(b"last words") + client.close())
    assert engine.decode(b"") == b"last words"
    assert engine.ended


@any_version
def test_after_the_clients_close_notify_the_server_can_still_write(version: str) -> None:
    engine, client = joined(version)
    engine.receive(client.close())
    assert engine.decode(b"") == b""
    assert engine.ended
    client.receive(bytes(engine.encode(bytes(100_000))))
    assert client.read() == bytes(100_000)


@any_version
def test_after_its_own_close_notify_the_server_can_still_read(version: str) -> None:
    engine, client = joined(version)
    client.receive(bytes(engine.close()))
    assert client.read() == b""
    assert client.closed
    engine.receive(client.write(b"more"))
    assert engine.decode(b"") == b"more"
    assert not engine.ended


def test_a_second_close_says_nothing_more() -> None:
    engine, _ = joined()
    assert engine.close()
    assert engine.close() == b""


def test_writing_after_close_is_a_tls_error() -> None:
    engine, _ = joined()
    engine.close()
    with pytest.raises(TlsError):
        engine.encode(b"too late")


@any_version
def test_a_forged_record_is_a_tls_error_with_an_alert_for_the_client(version: str) -> None:
    engine, client = joined(version)
    sent = bytearray(client.write(b"hello"))
    sent[-1] ^= 1
    engine.receive(sent)
    with pytest.raises(TlsError, match=r"bad record mac|decryption failed"):
        engine.decode(b"")
    client.receive(bytes(engine.output()))
    with pytest.raises(SSL.Error, match="bad record mac"):
        client.read()


def test_what_is_negotiated_is_told_as_openssl_names_it() -> None:
    engine = engine_for(Policy("intermediate", (b"imap",)), PAIR)
    join(engine, MemoryClient(client_context(alpn=[b"imap"])))
    assert engine.negotiated() == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", "imap", False)


def test_a_key_exchange_without_a_group_is_told_as_an_empty_one() -> None:
    pair = self_signed("www.example.com", key_type="rsa-2048")
    engine = engine_for(Policy("old"), pair)
    join(engine, MemoryClient(client_context(maximum=SSL.TLS1_2_VERSION, ciphers="AES128-GCM-SHA256")))
    assert engine.negotiated()[:4] == ("TLSv1.2", "AES128-GCM-SHA256", "", "")


def test_the_engine_keeps_its_front_context_alive_until_a_second_hello_is_answered() -> None:
    engine = engine_for(INTERMEDIATE, PAIR)  # nobody else refers to the front context
    client = MemoryClient(client_context(groups="P-521:P-256"), b"www.example.com")
    client.handshake()
    engine.receive(client.output())
    assert not engine.handshake()
    gc.collect()
    client.receive(bytes(engine.output()))
    join(engine, client)
    assert engine.negotiated().group == "secp256r1"


@pytest.mark.parametrize("size", [1, 5, 6, 100])
def test_a_handshake_goes_on_only_when_the_client_hello_is_whole(size: int) -> None:
    hello = hellos.from_pyopenssl()
    engine = engine_for(INTERMEDIATE, PAIR)
    engine.receive(hello[:size])
    assert not engine.handshake()
    assert engine.output() == b""
    engine.receive(hello[size:])
    assert not engine.handshake()
    assert engine.output()[:3] == b"\x16\x03\x03"


@given(st.binary(min_size=1, max_size=600))
@settings(max_examples=200, deadline=None)
def test_no_bytes_in_place_of_a_handshake_raise_anything_but_a_handshake_error(data: bytes) -> None:
    engine = engine_for(INTERMEDIATE, PAIR)
    engine.receive(data)
    try:
        assert not engine.handshake()
    except HandshakeError:
        assert len(engine.output()) in (0, 7)


@given(st.binary(min_size=1, max_size=600))
@settings(max_examples=100, deadline=None)
def test_no_bytes_after_the_handshake_raise_anything_but_a_tls_error(data: bytes) -> None:
    engine, _ = joined()
    engine.receive(data)
    try:
        assert engine.decode(b"") == b""
    except TlsError:
        assert engine.output()


def test_the_interpreter_ends_in_good_order_whoever_uses_the_engines_buffers() -> None:
    code = "from benchmarks.stage import Stage; from tests.support.engine import MemoryClient"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
