from __future__ import annotations

import ipaddress
import socket
import struct
from typing import cast

import crc32c as independent_crc32c
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from proxyprotocol.result import ProxyResult, ProxyResultIPv4, ProxyResultIPv6, ProxyResultLocal, ProxyResultUnknown
from proxyprotocol.tlv import ProxyProtocolSSLTLV, ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from proxy import proxy_protocol as pp
from proxy.crc32c import crc32c
from proxy.proxy_header import (
    CAP,
    CAP_V1,
    CAP_V2,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderReader,
    SslFacts,
    decode,
)
from proxy.proxy_protocol import ClientCertificate, encode_v1, encode_v2, ssl_tlv

V4 = ("192.0.2.1", 56324), ("198.51.100.7", 443)
V6 = ("2001:db8::1", 1), ("2001:db8:ffff::2", 65535)
TLS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
HEADERS = (
    encode_v1(*V4),
    encode_v1(*V6),
    encode_v1(None, None),
    encode_v2(*V4),
    encode_v2(*V6, [(pp.PP2_TYPE_ALPN, b"h2"), ssl_tlv("TLSv1.3", "TLS_AES_128_GCM_SHA256")]),
    encode_v2(None, None, [(pp.PP2_TYPE_AUTHORITY, b"www.example.com")]),
    encode_v2(*V4, local=True),
)


def v2(command: int = 0x21, family: int = 0x11, block: bytes = b"", length: int | None = None) -> bytes:
    """A header by its bytes."""
    return pp.SIGNATURE_V2 + struct.pack(">BBH", command, family, len(block) if length is None else length) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


ADDRESSES = bytes.fromhex("c0000201 c6336407 dc04 01bb")


def whole(data: bytes) -> ProxyHeader:
    """The header that `data` is, to its last byte."""
    header = decode(data)
    assert header is not None
    assert header.size == len(data)
    return header


def refusal(data: bytes) -> tuple[str, str]:
    with pytest.raises(ProxyHeaderError) as caught:
        decode(data)
    return caught.value.reason, str(caught.value)


def test_version_1_is_read() -> None:
    assert whole(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n") == ProxyHeader(1, *V4, 45)
    line = b"PROXY TCP6 2001:DB8::1 2001:db8:ffff:0::2 1 65535\r\n"
    assert whole(line) == ProxyHeader(1, *V6, len(line))


@pytest.mark.parametrize("behind", [b"", b" ", b" anything at all", b" 1.2.3.4 5.6.7.8 1 2", b"    ", b" \xff"])
def test_version_1_unknown_names_no_address_whatever_follows(behind: bytes) -> None:
    line = b"PROXY UNKNOWN" + behind + b"\r\n"
    assert whole(line) == ProxyHeader(1, None, None, len(line))


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.7 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 \xd9\xa1.1.1.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
        b"PROXY " + b"x" * CAP_V1,
    ],
)
def test_a_line_that_breaks_the_rules_of_version_1_is_invalid(line: bytes) -> None:
    assert refusal(line)[0] == "proxy_header_invalid"


def test_the_longest_line_of_version_1_is_taken_and_one_byte_more_is_not() -> None:
    longest = b"PROXY UNKNOWN " + b"f" * (CAP_V1 - 16) + b"\r\n"
    assert len(longest) == CAP_V1
    assert whole(longest).source is None
    assert decode(longest[:-1]) is None
    assert "longer than 107" in refusal(longest[:-2] + b"ff\r\n")[1]


def test_version_2_is_read() -> None:
    assert whole(encode_v2(*V4)) == ProxyHeader(2, *V4, 28)
    assert whole(encode_v2(*V6)) == ProxyHeader(2, *V6, 52)
    assert whole(v2(block=ADDRESSES)) == ProxyHeader(2, *V4, 28)


def test_a_mapped_address_is_given_as_ipv4_in_both_versions() -> None:
    line = b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8:ffff::2 56324 65535\r\n"
    assert whole(line)[1:3] == whole(encode_v2(V4[0], V6[1]))[1:3] == (V4[0], V6[1])


def test_the_tlvs_of_version_2_are_read() -> None:
    served = ssl_tlv(
        "TLSv1.2",
        "ECDHE-RSA-AES128-GCM-SHA256",
        ClientCertificate("Jürgen"),
        signature_algorithm="RSA-SHA256",
        key_algorithm="RSA2048",
    )
    said = [(0x01, b"h2"), (0x02, b"www.example.com"), (0x05, b"\0id"), (0x04, b"padding"), (0xE4, b"own"), served]
    header = whole(encode_v2(*V4, said))
    assert (header.alpn, header.authority, header.unique_id) == (b"h2", "www.example.com", b"\0id")
    assert header.ssl == SslFacts(7, 0, "TLSv1.2", "Jürgen", "ECDHE-RSA-AES128-GCM-SHA256", "RSA-SHA256", "RSA2048")
    assert list(header.tlvs) == said


def test_what_is_not_said_is_none() -> None:
    header = whole(encode_v2(*V4))
    assert (header.alpn, header.authority, header.unique_id, header.ssl) == (None, None, None, None)
    assert whole(encode_v2(*V4, [(0x20, bytes(5))])).ssl == SslFacts(0, 0, None, None, None, None, None)


def test_a_text_that_is_not_utf_8_is_shown_and_refuses_nobody() -> None:
    assert whole(encode_v2(*V4, [(0x02, b"caf\xe9")])).authority == "caf\\xe9"


@pytest.mark.parametrize("block", [b"", b"\xff" * 300])
def test_local_ignores_its_family_and_its_block(block: bytes) -> None:
    for family in range(256):
        assert whole(v2(0x20, family, block)) == ProxyHeader(2, None, None, 16 + len(block))


def test_unspec_and_unix_sockets_name_no_address_but_may_have_tlvs() -> None:
    for family, size in ((0x00, 0), (0x31, 216)):
        header = whole(v2(0x21, family, b"\xff" * size + tlv(0x01, b"imap")))
        assert (header.source, header.destination, header.alpn) == (None, None, b"imap")


def test_a_family_that_is_no_stream_s_is_invalid_at_once() -> None:
    for family in set(range(256)) - {0x00, 0x11, 0x21, 0x31}:
        reason, sentence = refusal(v2(0x21, family, length=300))
        assert reason == "proxy_header_invalid"
        assert f"0x{family:02x} is no family and transport of a stream" in sentence


def test_an_unknown_version_or_command_is_invalid_at_once() -> None:
    for command in set(range(256)) - {0x20, 0x21}:
        assert refusal(v2(command, length=12))[0] == "proxy_header_invalid"


@pytest.mark.parametrize(("family", "size"), [(0x11, 12), (0x21, 36), (0x31, 216)])
def test_a_block_too_short_for_its_addresses_is_invalid_at_once(family: int, size: int) -> None:
    assert decode(v2(0x21, family, length=size)) is None
    assert "not enough for the addresses" in refusal(v2(0x21, family, length=size - 1))[1]


def test_more_than_the_cap_is_refused_by_its_length_field_alone() -> None:
    for command in (0x20, 0x21):
        assert decode(v2(command, length=CAP_V2 - 16)) is None
        assert f"{CAP_V2} are the most" in refusal(v2(command, length=CAP_V2 - 15))[1]


@pytest.mark.parametrize(
    "behind",
    [
        b"\1",
        b"\1\0",
        b"\1\0\1",
        tlv(1, b"h2") + b"\0\0",
        tlv(1, b"h2")[:-1],
        tlv(0x20, b"\1\0\0\0"),
        tlv(0x20, bytes(5) + b"\x21"),
        tlv(0x20, bytes(5) + tlv(0x21, b"TLSv1.3")[:-1]),
        tlv(5, bytes(129)),
        tlv(3, b"\0\0\0"),
        tlv(3, bytes(5)),
        tlv(3, bytes(4)),
    ],
)
def test_tlvs_that_do_not_add_up_are_invalid(behind: bytes) -> None:
    assert refusal(v2(block=ADDRESSES + behind))[0] == "proxy_header_invalid"


def test_a_checksum_is_verified_wherever_it_stands() -> None:
    for before, after in ((b"", b""), (tlv(1, b"h2"), b""), (tlv(4, bytes(9)), tlv(2, b"a.example"))):
        blank = v2(block=ADDRESSES + before + tlv(3, bytes(4)) + after)
        at = 16 + len(ADDRESSES + before) + 3
        good = blank[:at] + independent_crc32c.crc32c(blank).to_bytes(4) + blank[at + 4 :]
        assert whole(good).source == V4[0]
        for place in range(16, len(good)):
            bad = bytearray(good)
            bad[place] ^= 0x10
            if place == at - 3:  # the type that says "checksum": without it there is none
                assert whole(bytes(bad)).source == V4[0]
            else:
                assert refusal(bytes(bad))[0] == "proxy_header_invalid"


@given(st.binary(max_size=300))
@example(b"123456789")
def test_the_checksum_is_crc32c(data: bytes) -> None:
    assert crc32c(data) == independent_crc32c.crc32c(data)


@pytest.mark.parametrize(
    "data", [TLS, b"GET / HTTP/1.1\r\n", b"proxy ", b"PROXY\t", b"\r\n\r\n\0\r\nQUIT\r", b"\0", b"PA"]
)
def test_what_begins_otherwise_is_no_header_from_its_first_wrong_byte(data: bytes) -> None:
    assert refusal(data)[0] == "proxy_header_missing"


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("behind", [b"", TLS, b"\r\n", b"x" * 5000])
def test_a_header_cut_anywhere_is_read_and_nothing_behind_it_is_lost(header: bytes, behind: bytes) -> None:
    expected = whole(header)
    for cut in range(len(header) + 1):
        reader = ProxyHeaderReader()
        found = reader.feed(header[:cut])
        assert (found is None) == (cut < len(header))
        if found is None:
            assert reader.held == cut
            found = reader.feed(header[cut:] + behind)
            assert reader.rest == behind
        assert found == expected
        assert reader.held == 0


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_in_single_bytes_is_read(header: bytes) -> None:
    reader = ProxyHeaderReader()
    for byte in header[:-1]:
        assert reader.feed(bytes([byte])) is None
    assert reader.feed(header[-1:]) == whole(header)
    assert reader.rest == b""


def test_a_reader_is_used_once() -> None:
    for first in (encode_v1(*V4), b"GET /"):
        reader = ProxyHeaderReader()
        try:
            reader.feed(first)
        except ProxyHeaderError:
            assert first == b"GET /"
        with pytest.raises(RuntimeError, match="come to its end"):
            reader.feed(b"x")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good header with some bytes changed, cut short, or followed by others."""
    data = bytearray(draw(st.sampled_from(HEADERS)))
    for at in draw(st.lists(st.integers(0, len(data) - 1), max_size=3)):
        data[at] ^= draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data) + draw(
        st.binary(max_size=20)
    )


pieces = st.lists(
    st.one_of(
        st.binary(max_size=200),
        mutated(),
        st.sampled_from([pp.SIGNATURE_V1, pp.SIGNATURE_V2, pp.SIGNATURE_V2 + b"\x21\x11\x0f\xff", b"x" * 20000]),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=400)
@given(pieces)
def test_any_bytes_give_a_header_or_the_one_error_and_never_hold_more_than_the_cap(chunks: list[bytes]) -> None:
    reader, fed = ProxyHeaderReader(), b""
    for chunk in chunks:
        fed += chunk
        try:
            header = reader.feed(chunk)
        except ProxyHeaderError:
            assert reader.held == 0
            return
        assert reader.held <= CAP
        if header is not None:
            assert header.size <= CAP
            assert fed[header.size :] == reader.rest
            return


addresses = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))
tlvs = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: kind not in (3, 5, 0x20)), st.binary(max_size=300)), max_size=5
)


def plain(address: tuple[str, int]) -> tuple[str, int]:
    """The address, out of its IPv6 mapping."""
    host = ipaddress.ip_address(address[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return str(mapped or host), address[1]


@settings(deadline=None)
@given(addresses, addresses, tlvs)
def test_what_is_encoded_is_decoded(
    source: tuple[str, int], destination: tuple[str, int], said: list[tuple[int, bytes]]
) -> None:
    first, second = whole(encode_v1(source, destination)), whole(encode_v2(source, destination, said))
    assert first[1:3] == second[1:3] == (plain(source), plain(destination))
    assert list(second.tlvs) == said


class TestAgainstProxyProtocolOfPyPI:
    """An implementation by somebody else, in both directions."""

    v4 = st.tuples(st.ip_addresses(v=4), st.integers(0, 65535))
    v6 = st.tuples(st.ip_addresses(v=6, network="2000::/3"), st.integers(0, 65535))
    ends = st.one_of(st.tuples(v4, v4), st.tuples(v6, v6))
    texts = st.text(st.characters(codec="ascii"), max_size=40)

    @settings(deadline=None)
    @given(ends, st.binary(min_size=1, max_size=20), texts, st.binary(max_size=128), texts, texts)
    def test_we_read_what_it_writes(
        self,
        ends: tuple[tuple[ipaddress.IPv4Address, int], tuple[ipaddress.IPv4Address, int]],
        alpn: bytes,
        authority: str,
        unique_id: bytes,
        version: str,
        cipher: str,
    ) -> None:
        ssl = ProxyProtocolSSLTLV(has_ssl=True, version=version, cipher=cipher, key_alg="EC256")
        tlv = ProxyProtocolTLV(alpn=alpn, authority=authority, unique_id=unique_id, ssl=ssl)
        kind = ProxyResultIPv4 if ends[0][0].version == 4 else ProxyResultIPv6
        result = cast(ProxyResult, kind(*ends, protocol=socket.SOCK_STREAM, tlv=tlv))
        expected = tuple((str(host), port) for host, port in ends)
        assert whole(ProxyProtocolV1().pack(result))[1:3] == expected
        header = whole(ProxyProtocolV2().pack(result))  # with a checksum, which its crc32c module computes
        assert header[1:3] == expected
        assert any(kind == pp.PP2_TYPE_CRC32C for kind, _ in header.tlvs)
        assert (header.alpn, header.authority, header.unique_id) == (alpn, authority, unique_id)
        assert header.ssl is not None
        assert (header.ssl.version, header.ssl.cipher, header.ssl.key_algorithm) == (version, cipher, "EC256")

    def test_we_read_its_headers_without_addresses(self) -> None:
        assert whole(ProxyProtocolV1().pack(ProxyResultUnknown())).source is None
        assert whole(ProxyProtocolV2().pack(ProxyResultUnknown())).source is None
        assert whole(ProxyProtocolV2().pack(ProxyResultLocal())).source is None

    @settings(deadline=None)
    @given(ends, texts)
    def test_it_reads_what_we_write(
        self, ends: tuple[tuple[ipaddress.IPv4Address, int], tuple[ipaddress.IPv4Address, int]], name: str
    ) -> None:
        source, destination = ((str(host), port) for host, port in ends)
        said = [
            (pp.PP2_TYPE_ALPN, b"h2"),
            (pp.PP2_TYPE_AUTHORITY, name.encode()),
            (pp.PP2_TYPE_UNIQUE_ID, b"1-2"),
            ssl_tlv("TLSv1.3", "TLS_AES_128_GCM_SHA256", signature_algorithm="RSA-SHA256", key_algorithm="RSA2048"),
        ]
        for read in (
            ProxyProtocolV1().unpack(encode_v1(source, destination)),
            found := ProxyProtocolV2().unpack(encode_v2(source, destination, said)),
        ):
            assert isinstance(read, ProxyResultIPv4 | ProxyResultIPv6)
            assert (read.source, read.dest) == ends
        assert (found.tlv.alpn, found.tlv.authority, found.tlv.unique_id) == (b"h2", name, b"1-2")
        ssl = found.tlv.ssl
        assert ssl.has_ssl
        assert (ssl.version, ssl.cipher, ssl.sig_alg, ssl.key_alg) == (
            "TLSv1.3",
            "TLS_AES_128_GCM_SHA256",
            "RSA-SHA256",
            "RSA2048",
        )

    def test_it_takes_our_own_connections_for_what_they_are(self) -> None:
        assert isinstance(ProxyProtocolV2().unpack(encode_v2(None, None, local=True)), ProxyResultLocal)
