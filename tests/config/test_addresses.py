from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.addresses import TcpAddress, UnixAddress, parse_server, parse_tcp, parse_unix

PORTS = st.integers(0, 65535)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":443", None, 443),
        ("127.0.0.1:443", "127.0.0.1", 443),
        ("[::1]:443", "::1", 443),
        ("[2001:DB8:0::1]:25", "2001:db8::1", 25),
        ("Backend.Example:8080", "backend.example", 8080),
        ("localhost:0", "localhost", 0),
        ("[fe80::1%eth0]:443", "fe80::1%eth0", 443),
    ],
)
def test_a_tcp_address_is_read_in_canonical_form(text: str, host: str | None, port: int) -> None:
    assert parse_tcp(text) == TcpAddress(host, port)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("443", 'write ":443"'),
        ("127.0.0.1", "has no port"),
        ("[::1]", "has no port"),
        ("", "has no port"),
        ("::1:443", "goes into brackets"),
        ("*:443", 'leave the "*" out'),
        (":65536", "a number up to 65535"),
        (":-1", "a number up to 65535"),
        (":٣", "a number up to 65535"),
        (":", "a number up to 65535"),
        ("256.0.0.1:443", "is not an IPv4 address"),
        ("10.0.0:443", "is not an IPv4 address"),
        ("010.0.0.1:443", "is not an IPv4 address"),
        ("[::g]:443", "is not an IPv6 address"),
        ("bad host:443", "is not a host name"),
        ("unix:/run/x", "is a Unix socket"),
    ],
)
def test_a_bad_tcp_address_is_refused_with_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        parse_tcp(text)
    assert complaint in str(caught.value)


@given(host=st.none() | st.ip_addresses(), port=PORTS)
def test_what_a_tcp_address_prints_reads_back_as_the_same_address(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> None:
    address = TcpAddress(None if host is None else str(host), port)
    assert parse_tcp(str(address)) == address


@given(text=st.text())
def test_any_text_is_an_address_or_a_value_error_on_one_line(text: str) -> None:
    complaint = ""
    try:
        address = parse_server(text, Path("/base"))
        assert parse_server(str(address)) == address
    except ValueError as error:
        complaint = str(error)
    assert complaint.isprintable()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (TcpAddress(None, 443), ":443"),
        (TcpAddress("127.0.0.1", 443), "127.0.0.1:443"),
        (TcpAddress("::1", 443), "[::1]:443"),
        (UnixAddress(Path("/run/x")), "unix:/run/x"),
    ],
)
def test_addresses_print_as_they_are_written(address: TcpAddress | UnixAddress, text: str) -> None:
    assert str(address) == text


def test_a_relative_unix_socket_belongs_to_the_base_directory() -> None:
    assert parse_unix("unix:run/imap", Path("/etc/snigate")) == UnixAddress(Path("/etc/snigate/run/imap"))


@pytest.mark.parametrize("text", ["unix:", "/run/x", "unix:/run/\0x", "unix:/" + "x" * 107])
def test_a_bad_unix_socket_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a Unix socket|is too long"):
        parse_unix(text)


def test_a_unix_socket_may_fill_all_of_its_107_bytes() -> None:
    assert len(str(parse_unix("unix:/" + "x" * 106).path)) == 107


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (":143", 'has no host to connect to; write for example "127.0.0.1:143"'),
        ("10.0.0.5:0", "nothing can be reached on port 0"),
        ("/run/imap", 'a Unix socket is written "unix:'),
        ("http://backend:80", "is not an address"),
    ],
)
def test_a_server_needs_a_host_and_a_port(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        parse_server(text)
    assert complaint in str(caught.value)
