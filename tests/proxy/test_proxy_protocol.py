from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import proxy_protocol as pp
from proxy.proxy_protocol import ClientCertificate, encode_v1, encode_v2, ssl_tlv

V4 = ("192.0.2.1", 56324), ("198.51.100.7", 443)
V6 = ("2001:db8::1", 1), ("2001:db8:ffff::2", 65535)


class Header(NamedTuple):
    command: str
    family: str
    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    tlvs: list[tuple[int, bytes]]


def tlvs_in(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        length = data[1] << 8 | data[2]
        assert len(data) >= 3 + length
        found.append((data[0], data[3 : 3 + length]))
        data = data[3 + length :]
    return found


def decode(header: bytes) -> Header:
    """Section 2.2 of the specification, read word by word."""
    assert header[:12] == bytes.fromhex("0d0a0d0a000d0a515549540a")
    assert header[12] >> 4 == 2
    command = {0: "LOCAL", 1: "PROXY"}[header[12] & 15]
    family = {0x00: "UNSPEC", 0x11: "TCP4", 0x21: "TCP6"}[header[13]]
    assert len(header) == 16 + int.from_bytes(header[14:16])
    size = {"UNSPEC": 0, "TCP4": 4, "TCP6": 16}[family]
    if not size:
        return Header(command, family, None, None, tlvs_in(header[16:]))
    block, rest = header[16 : 16 + 2 * size + 4], header[16 + 2 * size + 4 :]
    one = str(ipaddress.ip_address(block[:size]))
    other = str(ipaddress.ip_address(block[size : 2 * size]))
    source_port, destination_port = struct.unpack("!HH", block[2 * size :])
    return Header(command, family, (one, source_port), (other, destination_port), tlvs_in(rest))


def test_v1_writes_ipv4() -> None:
    assert encode_v1(*V4) == b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"


def test_v1_writes_ipv6() -> None:
    assert encode_v1(*V6) == b"PROXY TCP6 2001:db8::1 2001:db8:ffff::2 1 65535\r\n"


def test_v1_writes_unknown_for_a_client_without_an_address() -> None:
    assert encode_v1(None, V4[1]) == encode_v1(V4[0], None) == encode_v1(None, None) == b"PROXY UNKNOWN\r\n"


def test_a_mapped_address_is_written_as_ipv4() -> None:
    mapped = ("::ffff:192.0.2.1", 56324), ("::FFFF:c633:6407", 443)
    assert encode_v1(*mapped) == encode_v1(*V4)
    assert encode_v2(*mapped) == encode_v2(*V4)
    assert encode_v2(mapped[0], V4[1]) == encode_v2(*V4)


def test_mixed_families_are_both_written_as_ipv6_without_a_dotted_tail() -> None:
    assert encode_v1(V4[0], V6[1]) == b"PROXY TCP6 ::ffff:c000:201 2001:db8:ffff::2 56324 65535\r\n"
    assert encode_v1(V6[0], V4[1]) == b"PROXY TCP6 2001:db8::1 ::ffff:c633:6407 1 443\r\n"
    header = decode(encode_v2(V4[0], V6[1]))
    assert header.family == "TCP6"
    assert header.source is not None
    mapped = ipaddress.IPv6Address(header.source[0]).ipv4_mapped
    assert mapped == ipaddress.IPv4Address("192.0.2.1")
    assert header.destination == V6[1]


def test_a_zone_index_is_dropped() -> None:
    assert encode_v1(("fe80::1%eth0", 1), V6[1]) == encode_v1(("fe80::1", 1), V6[1])
    assert decode(encode_v2(("fe80::1%2", 1), V6[1])).source == ("fe80::1", 1)


def test_v2_writes_the_specification_s_bytes() -> None:
    expected = "0d0a0d0a000d0a515549540a 21 11 000c c0000201 c6336407 dc04 01bb"
    assert encode_v2(*V4) == bytes.fromhex(expected)


def test_v2_writes_ipv6_and_tlvs_in_order() -> None:
    tlvs = [(pp.PP2_TYPE_AUTHORITY, b"www.example.com"), (pp.PP2_TYPE_ALPN, b"h2"), (pp.PP2_TYPE_UNIQUE_ID, b"")]
    assert decode(encode_v2(*V6, tlvs)) == Header("PROXY", "TCP6", *V6, tlvs)


def test_v2_writes_unspec_with_tlvs_for_a_client_without_an_address() -> None:
    tlvs = [(pp.PP2_TYPE_ALPN, b"imap")]
    for source, destination in ((None, V4[1]), (V4[0], None), (None, None)):
        assert decode(encode_v2(source, destination, tlvs)) == Header("PROXY", "UNSPEC", None, None, tlvs)


def test_v2_writes_sixteen_bytes_for_the_proxy_s_own_connections() -> None:
    header = encode_v2(*V4, [(1, b"h2")], local=True)
    assert len(header) == 16
    assert decode(header) == Header("LOCAL", "UNSPEC", None, None, [])


addresses = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))


@settings(deadline=None)
@given(addresses, addresses, st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=5))
def test_v2_can_be_read_back(
    source: tuple[str, int], destination: tuple[str, int], tlvs: list[tuple[int, bytes]]
) -> None:
    header = decode(encode_v2(source, destination, tlvs))
    assert header.command == "PROXY"
    assert header.tlvs == tlvs
    for written, given_ in ((header.source, source), (header.destination, destination)):
        assert written is not None
        assert written[1] == given_[1]
        assert plain(written[0]) == plain(given_[0])


@settings(deadline=None)
@given(addresses, addresses)
def test_v1_can_be_read_back_and_fits_its_line(source: tuple[str, int], destination: tuple[str, int]) -> None:
    line = encode_v1(source, destination)
    assert len(line) <= 107
    assert line.endswith(b"\r\n")
    protocol, family, one, other, one_port, other_port = line[:-2].decode("ascii").split(" ")
    version = {"TCP4": 4, "TCP6": 6}[family]
    assert protocol == "PROXY"
    assert {ipaddress.ip_address(one).version, ipaddress.ip_address(other).version} == {version}
    assert (plain(one), plain(other)) == (plain(source[0]), plain(destination[0]))
    assert (one_port, other_port) == (str(source[1]), str(destination[1]))
    assert version == 4 or "." not in one + other


def plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address, out of its IPv6 mapping."""
    address = ipaddress.ip_address(host)
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def test_the_ssl_tlv_without_a_client_certificate_says_tls_and_nothing_verified() -> None:
    kind, value = ssl_tlv("TLSv1.3", "TLS_AES_128_GCM_SHA256")
    client, verify = struct.unpack_from("!BI", value)
    assert (kind, client) == (0x20, 0x01)
    assert verify != 0
    assert tlvs_in(value[5:]) == [(0x21, b"TLSv1.3"), (0x23, b"TLS_AES_128_GCM_SHA256")]


def test_the_ssl_tlv_names_a_verified_client_certificate() -> None:
    kind, value = ssl_tlv(
        "TLSv1.2",
        "ECDHE-RSA-AES128-GCM-SHA256",
        ClientCertificate("Jürgen"),
        signature_algorithm="RSA-SHA256",
        key_algorithm="RSA2048",
    )
    assert decode(encode_v2(*V4, [(kind, value)])).tlvs == [(0x20, value)]
    assert struct.unpack_from("!BI", value) == (0x01 | 0x02 | 0x04, 0)
    assert tlvs_in(value[5:]) == [
        (0x21, b"TLSv1.2"),
        (0x22, "Jürgen".encode()),
        (0x23, b"ECDHE-RSA-AES128-GCM-SHA256"),
        (0x24, b"RSA-SHA256"),
        (0x25, b"RSA2048"),
    ]


def test_the_ssl_tlv_tells_a_resumed_session_and_a_failed_verification() -> None:
    _, value = ssl_tlv("TLSv1.3", "TLS_AES_128_GCM_SHA256", ClientCertificate(None, 10, on_this_connection=False))
    assert struct.unpack_from("!BI", value) == (0x01 | 0x04, 10)
    assert 0x22 not in dict(tlvs_in(value[5:]))


@pytest.mark.parametrize(
    "host", ["", "localhost", "192.0.2", "2001:db8::1::", "192.0.2.1\0", "::1\r\nX", "1.2.3.4\r\n"]
)
def test_a_host_that_is_no_ip_address_is_an_error(host: str) -> None:
    for encode in (encode_v1, encode_v2):
        with pytest.raises(ValueError, match="is not an IP address"):
            encode((host, 1), V4[1])


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_an_error(port: int) -> None:
    for encode in (encode_v1, encode_v2):
        with pytest.raises(ValueError, match=f"{port} is not a port number"):
            encode(V4[0], ("192.0.2.9", port))


def test_what_does_not_fit_into_a_header_is_an_error() -> None:
    assert len(encode_v2(*V4, [(0xE0, bytes(65535 - 12 - 3))])) == 16 + 65535
    for tlvs in ([(0xE0, bytes(65535 - 12 - 2))], [(256, b"")], [(-1, b"")], [(1, bytes(65536))]):
        with pytest.raises(ValueError, match=r"at most 65535|holds 65535"):
            encode_v2(*V4, tlvs)
