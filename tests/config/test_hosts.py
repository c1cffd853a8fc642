from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certstore import names
from config.hosts import canonical_host, canonical_pattern

TEXTS = (
    st.text()
    | st.from_regex(r"(\*\.)?[a-zA-Z0-9_*-]{1,8}(\.[a-zA-Z0-9äßΩ_-]{1,8}){0,3}\.?", fullmatch=True)
    | st.ip_addresses().map(str)
)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("www.example.com", "www.example.com"),
        ("WWW.Example.COM.", "www.example.com"),
        ("www.Bücher.example", "www.xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_becomes_lower_case_a_labels_without_a_trailing_dot(text: str, host: str) -> None:
    assert canonical_host(text) == host


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        (".", "is empty"),
        ("a..example", "two dots in a row"),
        (".example", "a dot in front"),
        ("-a.example", "only letters, digits"),
        ("a b.example", "only letters, digits"),
        ("host:443", "only letters, digits"),
        ("x" * 64 + ".example", "at most 63"),
        ("x." * 127 + "example", "at most 253"),
        ("☃.example", "not a valid internationalised name"),
        ("192.0.2.1", "is an IP address"),
        ("*.example.com", "is a wildcard"),
    ],
)
def test_a_bad_host_is_refused_with_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        canonical_host(text)
    assert complaint in str(caught.value)


def test_a_wildcard_is_the_whole_leftmost_label() -> None:
    assert canonical_pattern("*.Bücher.example") == "*.xn--bcher-kva.example"


@pytest.mark.parametrize("text", ["w*.example.com", "www.*.com", "*.*.example.com", "*example.com", "**.example.com"])
def test_a_star_anywhere_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be the whole leftmost label"):
        canonical_pattern(text)


def test_a_star_alone_is_what_the_listener_does_anyway() -> None:
    with pytest.raises(ValueError, match="goes to the listener's own backend"):
        canonical_pattern("*")


@given(text=TEXTS)
@example("1.2.3.4.")
@example("a.example..")
@example("faß.example")
def test_configured_hosts_and_certificate_names_have_the_same_canonical_form(text: str) -> None:
    try:
        expected = names.canonical_pattern(text)
    except names.InvalidName:
        with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
            canonical_pattern(text)
        assert str(caught.value).isprintable()
    else:
        assert canonical_pattern(text) == expected
        assert canonical_pattern(expected.upper() + ".") == expected
