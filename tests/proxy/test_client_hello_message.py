from __future__ import annotations

import ssl
import tracemalloc

import pytest

from proxy.client_hello_message import MAX_NUMBERS, MAX_PROTOCOLS
from proxy.extension_layout import MAX_EXTENSIONS
from tests.support import client_hellos as hellos
from tests.support.client_hello_reading import failure, read
from tests.support.client_hellos import TLS_1_2, TLS_1_3, message, record, records


def malformed(extensions: list[tuple[int, bytes]]) -> int | None:
    """The alert for a ClientHello with these extensions, which must be refused as malformed."""
    error = failure(records(message(extensions)))
    assert error.reason == "malformed_client_hello"
    return error.alert


def test_a_stdlib_client_is_read_as_it_was_configured() -> None:
    hello = read(hellos.from_stdlib("WWW.Example.COM", ("h2", "http/1.1")))
    assert hello.server_name == "www.example.com"
    assert hello.alpn == (b"h2", b"http/1.1")
    assert hello.versions == (TLS_1_3, TLS_1_2)
    assert hello.legacy_version == TLS_1_2
    assert {0x1301, 0xC02B, 0xC02F} <= set(hello.cipher_suites)
    assert {0, 10, 13, 16, 43} <= set(hello.extensions)
    assert 29 in hello.groups
    assert 0x0403 in hello.signature_algorithms


def test_a_pyopenssl_client_offers_a_post_quantum_group() -> None:
    hello = read(hellos.from_pyopenssl(b"mail.example.com", (b"imap",)))
    assert hello.server_name == "mail.example.com"
    assert hello.alpn == (b"imap",)
    assert 0x11EC in hello.groups


def test_without_supported_versions_the_legacy_version_counts() -> None:
    assert read(hellos.from_stdlib(maximum=ssl.TLSVersion.TLSv1_2)).versions == (TLS_1_2,)
    assert read(records(message([], legacy_version=0x0301))).versions == (0x0301,)


def test_a_legacy_version_never_stands_for_tls_1_3() -> None:
    hello = read(records(message([], legacy_version=TLS_1_3)))
    assert (hello.versions, hello.legacy_version) == ((TLS_1_2,), TLS_1_3)


def test_grease_is_removed_from_the_versions_and_nowhere_else() -> None:
    hello = read(hellos.chrome())
    assert hello.versions == (TLS_1_3, TLS_1_2)
    assert (hello.cipher_suites[0], hello.groups[0], hello.extensions[0]) == (0x1A1A, 0x2A2A, 0x3A3A)


def test_a_client_hello_without_extensions_is_legal() -> None:
    for handshake in (message(None), message([])):
        hello = read(records(handshake))
        assert (hello.server_name, hello.alpn, hello.groups, hello.extensions) == (None, (), (), ())
        assert hello.versions == (TLS_1_2,)


@pytest.mark.parametrize("literal", [b"192.0.2.1", b"2001:db8::1"])
def test_an_ip_literal_counts_as_no_name(literal: bytes) -> None:
    assert read(records(message([hellos.server_name(literal)]))).server_name is None


def test_a_body_cut_anywhere_is_malformed() -> None:
    handshake = message([hellos.server_name(b"a.example"), hellos.groups(29), hellos.alpn(b"h2")])
    without_extensions = len(message(None))
    for end in range(4, len(handshake)):
        if end != without_extensions:
            cut = b"\x01" + (end - 4).to_bytes(3) + handshake[4:end]
            error = failure(record(cut))
            assert (error.reason, error.alert) == ("malformed_client_hello", 50)


def test_bytes_behind_the_extensions_are_malformed() -> None:
    handshake = message([hellos.groups(29)])
    assert failure(record(b"\x01" + (len(handshake) - 3).to_bytes(3) + handshake[4:] + b"\0")).alert == 50


def test_a_session_id_has_at_most_32_bytes() -> None:
    assert read(records(message([], session_id=b""))) == read(records(message([], session_id=bytes(32))))
    assert failure(records(message([], session_id=bytes(33)))).reason == "malformed_client_hello"


def test_cipher_suites_must_not_be_empty() -> None:
    assert failure(records(message([], ciphers=()))).reason == "malformed_client_hello"


def test_compression_methods_must_not_be_empty() -> None:
    assert read(records(message([], compression=b"\x01\x00"))) == read(records(message([])))
    assert failure(records(message([], compression=b""))).reason == "malformed_client_hello"


@pytest.mark.parametrize("behind", [b"", bytes(40)], ids=["at the end", "with bytes behind"])
@pytest.mark.parametrize("last", [b"\0", b"\0\x17", b"\0\x17\0", b"\0\x17\0\x01", b"\x77\x77\0\x05abcd"], ids=bytes.hex)
def test_a_last_extension_that_is_cut_off_is_malformed(last: bytes, behind: bytes) -> None:
    body = message(None)[4:] + hellos.vector(b"\0\x23\0\0" + last)
    error = failure(record(b"\x01" + hellos.vector(body, 3) + behind))
    assert (error.reason, error.alert) == ("malformed_client_hello", 50)


def test_a_duplicate_extension_is_an_illegal_parameter() -> None:
    assert malformed([hellos.groups(29), (23, b""), hellos.groups(29)]) == 47
    assert malformed([(0x7777, b""), (0x7777, b"")]) == 47


@pytest.mark.parametrize(
    "extension",
    [
        (0, b""),
        (0, b"\0\0"),
        (0, hellos.vector(b"\0")),
        (0, hellos.vector(b"\0\0")),
        (0, hellos.vector(b"\0\0\x05abcd")),
        (0, hellos.vector(b"\0\0\x03abc") + b"\0"),
        (0, b"\0\x05\0\0\x03abc"),
        hellos.server_name(b""),
        hellos.server_name(b"a.example", name_type=1),
        (10, b""),
        (10, b"\0\0"),
        (10, b"\0\x01\x1d"),
        (10, b"\0\x03\0\x1d\0"),
        (10, b"\0\x02\0\x1d\0\x17"),
        (10, b"\0\x04\0\x1d"),
        (13, b""),
        (13, b"\0\x02\x04\x03\x08"),
        (13, b"\0\x03\x04\x03\x08"),
        (16, b""),
        (16, b"\0\0"),
        (16, b"\0\x03\x03h2"),
        (16, b"\0\x04\x02h2"),
        hellos.alpn(b"h2", b""),
        hellos.alpn(b""),
        (43, b""),
        (43, b"\0"),
        (43, b"\x01\x03"),
        (43, b"\x02\x03\x04\x03"),
        (43, b"\x04\x03\x04"),
    ],
    ids=lambda extension: f"{extension[0]}-{extension[1].hex() or 'empty'}",
)
def test_lengths_inside_an_extension_that_do_not_add_up_are_malformed(extension: tuple[int, bytes]) -> None:
    assert malformed([extension]) == 50
    assert malformed([(23, b""), extension, (35, b"")]) == 50


def test_two_host_names_are_an_illegal_parameter() -> None:
    assert malformed([hellos.server_name(b"a.example", b"b.example")]) == 47


@pytest.mark.parametrize(
    "name",
    [
        b"a.example\0.evil.example",
        b"\0",
        b"b\xc3\xbccher.example",
        b"\xff\xfe",
        b"a" * 64 + b".example",
        b".".join([b"a" * 49] * 6),
        b"a" * 5000,
        b"*.example.com",
        b"a..example",
        b".",
        b"a b",
    ],
)
def test_a_server_name_that_is_no_host_name_is_refused_as_unrecognized(name: bytes) -> None:
    error = failure(records(message([hellos.server_name(name)])))
    assert (error.reason, error.alert) == ("bad_server_name", 112)


def many(count: int) -> list[tuple[int, bytes]]:
    return [(0x4000 + number, b"") for number in range(count)]


def test_what_strangers_fill_lists_with_is_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(400):
            lists = [range(kind << 14 | number, (kind << 14 | number) + 900) for kind in range(3)]
            hello = read(records(message([hellos.groups(*lists[0]), hellos.schemes(*lists[1])], lists[2])))
            assert hello.ja4()
            assert hello.key_types is not None
            del hello
        assert tracemalloc.get_traced_memory()[0] < 5_000_000
    finally:
        tracemalloc.stop()


def test_more_than_any_client_sends_is_refused_before_it_costs_anything() -> None:
    assert len(read(records(message(many(MAX_EXTENSIONS)))).extensions) == MAX_EXTENSIONS
    assert malformed(many(MAX_EXTENSIONS + 1)) == 50
    assert malformed(many(15_000)) == 50
    protocols = [b"%d" % number for number in range(MAX_PROTOCOLS + 1)]
    assert len(read(records(message([hellos.alpn(*protocols[1:])]))).alpn) == MAX_PROTOCOLS
    assert malformed([hellos.alpn(*protocols)]) == 50
    assert len(read(records(message([hellos.groups(*range(MAX_NUMBERS))]))).groups) == MAX_NUMBERS
    assert malformed([hellos.groups(*range(MAX_NUMBERS + 1))]) == 50
