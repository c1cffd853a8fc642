from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.redirect_target import BadRequest, Target, target


def location(request_target: bytes, *hosts: bytes, port: int = 443) -> str:
    return target(request_target, hosts).location(port)


def reason(request_target: bytes, *hosts: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        target(request_target, hosts)
    return caught.value.reason


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (b"www.example.com", "www.example.com"),
        (b"WWW.Example.COM.", "www.example.com"),
        (b"www.example.com:80", "www.example.com"),
        (b"www.example.com:8080", "www.example.com"),
        (b"www.example.com:", "www.example.com"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"_odd.example.com", "_odd.example.com"),
        (b"localhost", "localhost"),
        (b"192.0.2.1", "192.0.2.1"),
        (b"192.0.2.1:80", "192.0.2.1"),
        (b"[2001:DB8:0::1]", "[2001:db8::1]"),
        (b"[2001:db8::1]:80", "[2001:db8::1]"),
        (b"[::ffff:192.0.2.1]", f"[{ip_address('::ffff:192.0.2.1')}]"),
    ],
)
def test_the_host_is_kept_and_its_port_is_not(host: bytes, shown: str) -> None:
    assert location(b"/", host) == f"https://{shown}/"
    assert location(b"/", host, port=8443) == f"https://{shown}:8443/"


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b".",
        b"a..b",
        b".a",
        b"-a.example",
        b"a b",
        b"a.example/evil",
        b"a.example?",
        b"a.example#",
        b"a.example@evil.example",
        b"user:pass@evil.example",
        b"a.example\\evil",
        b"a.example:80:80",
        b"a.example:x",
        b"a.example:+80",
        b"a.example:123456",
        b"a.example:\xb2",
        b"a.example,b.example",
        b"a.example\r\nX: y",
        b"a.example\0",
        b"b\xc3\xbccher.example",
        b"\xff",
        b"*.example.com",
        b"x" * 64 + b".example",
        b"a." * 127 + b"example",
        b"256.0.0.1",
        b"192.0.2",
        b"127.1",
        b"2130706433",
        b"0x7f000001",
        b"0x7f.1",
        b"a.0x",
        b"192.0.2.01",
        b"192.0.2.1.",
        b"a.example.1",
        b"[2001:db8::1",
        b"2001:db8::1",
        b"[2001:db8::1]x",
        b"[2001:db8::1]:x",
        b"[fe80::1%25eth0]",
        b"[fe80::1%eth0]",
        b"[192.0.2.1]",
        b"[a.example]",
        b"[]",
        b"[v1.x]",
    ],
)
def test_anything_else_in_host_is_refused(host: bytes) -> None:
    assert reason(b"/", host) == "bad_host"


def test_no_host_and_two_hosts_are_refused() -> None:
    assert reason(b"/") == "no_host"
    assert reason(b"/", b"a.example", b"a.example") == "no_host"
    assert reason(b"http://a.example/") == "no_host"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a/b?c=d&e=%0d%0aX:%20y",
        "//evil.example/",
        "/\\evil.example",
        "/../..",
        "/?",
        "/a|b\"<>`{}'",
        "/@x:1",
        "/;a",
    ],
)
def test_path_and_query_stay_as_sent_and_lead_to_no_other_host(path: str) -> None:
    found = location(path.encode(), b"www.example.com")
    assert found == f"https://www.example.com{path}"
    assert urlsplit(found).hostname == "www.example.com"


@pytest.mark.parametrize(
    ("request_target", "path"),
    [
        (b"http://b.example", "/"),
        (b"HTTP://B.example:80", "/"),
        (b"http://b.example/x?y", "/x?y"),
        (b"http://b.example?y=/z", "/?y=/z"),
        (b"http://b.example/a?b=http://c.example/", "/a?b=http://c.example/"),
    ],
)
def test_an_absolute_target_overrules_the_host(request_target: bytes, path: str) -> None:
    assert location(request_target, b"a.example") == f"https://b.example{path}"


@pytest.mark.parametrize(
    ("request_target", "why"),
    [
        (b"*", "bad_target"),
        (b"www.example.com:443", "bad_target"),
        (b"https://b.example/", "bad_target"),
        (b"ftp://b.example/", "bad_target"),
        (b"javascript:alert(1)", "bad_target"),
        (b"a", "bad_target"),
        (b"", "bad_target"),
        (b"/a b", "bad_target"),
        (b"/a\r\nX: y", "bad_target"),
        (b"/\xff", "bad_target"),
        (b"/#a", "bad_target"),
        (b"http://", "bad_host"),
        (b"http:///x", "bad_host"),
        (b"http://u@b.example/", "bad_host"),
        (b"http://b.example\\x/", "bad_host"),
    ],
)
def test_other_targets_are_refused(request_target: bytes, why: str) -> None:
    assert reason(request_target, b"a.example") == why


def test_an_absolute_target_does_not_excuse_a_bad_host() -> None:
    assert reason(b"http://b.example/", b"a b") == "bad_host"


@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("/.well-known/acme-challenge/abc_DEF-123", "abc_DEF-123"),
        ("/.well-known/acme-challenge/abc?x=/../y", "abc"),
        ("/.well-known/acme-challenge/" + "a" * 255, "a" * 255),
        ("/.well-known/acme-challenge/" + "a" * 256, None),
        ("/.well-known/acme-challenge/", None),
        ("/.well-known/acme-challenge/.", None),
        ("/.well-known/acme-challenge/..", None),
        ("/.well-known/acme-challenge/../../etc/passwd", None),
        ("/.well-known/acme-challenge/a/b", None),
        ("/.well-known/acme-challenge//a", None),
        ("/.well-known/acme-challenge/a%2fb", None),
        ("/.well-known/acme-challenge/a.txt", None),
        ("/.well-known/acme-challenge/\u0661", None),
        ("/.well-known/acme-challenge", None),
        ("/.well-known/Acme-Challenge/abc", None),
        ("/x/.well-known/acme-challenge/abc", None),
        ("//.well-known/acme-challenge/abc", None),
        ("/?/.well-known/acme-challenge/abc", None),
    ],
)
def test_a_challenge_is_known_by_its_path_and_a_plain_token(path: str, token: str | None) -> None:
    assert Target("a.example", path).challenge == token


targets = st.one_of(st.binary(max_size=60), st.from_regex(rb"(http://)?[!-~]{0,30}/[!-~]{0,30}", fullmatch=True))
hosts = st.one_of(
    st.binary(max_size=40),
    st.from_regex(rb"[a-zA-Z0-9_.\[\]:%@-]{1,40}", fullmatch=True),
    st.ip_addresses().map(lambda one: (f"[{one}]" if one.version == 6 else str(one)).encode()),
)


@settings(deadline=None, max_examples=500)
@given(targets, st.lists(hosts, max_size=2), st.integers(1, 65535))
def test_whatever_is_asked_the_location_is_an_https_address_of_a_sane_host(
    asked: bytes, named: list[bytes], port: int
) -> None:
    try:
        found = target(asked, named)
    except BadRequest:
        return
    text = found.location(port)
    assert re.fullmatch(r"https://[a-z0-9_.:\[\]-]+/[\x21-\x7e]*", text)
    parts = urlsplit(text)
    assert (parts.scheme, parts.username, parts.port or 443) == ("https", None, port)
    assert parts.hostname == found.host.strip("[]")
    assert text.endswith(found.path)
    assert "#" not in text
