from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certstore.names import (
    InvalidName,
    canonical_name,
    canonical_pattern,
    certificate_names,
    server_name,
    wildcard_of,
)
from tests.support.pki import Authority, Pair, self_signed

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join).filter(lambda name: not name[-1].isdigit())
GERMAN = st.from_regex(r"[a-zäöü]{1,20}", fullmatch=True)


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.make()


def names_of(pair: Pair) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return certificate_names(pair.certificate)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("WWW.Example.COM", "www.example.com"),
        ("www.example.com.", "www.example.com"),
        ("localhost", "localhost"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("my_host.example", "my_host.example"),
        ("r3---sn-x.example", "r3---sn-x.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("_sip.bücher.example", "_sip.xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("bücher\u3002example\uff0e", "xn--bcher-kva.example"),
        ("\uff37\uff37\uff37.example", "www.example"),
        ("xn--ls8h.example", "xn--ls8h.example"),
        ("x" * 63 + ".example", "x" * 63 + ".example"),
    ],
)
def test_spellings_of_a_name_have_one_canonical_form(text: str, canonical: str) -> None:
    assert canonical_name(text) == canonical


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (".", "empty"),
        ("\u00ad", "empty"),
        ("a..b", "empty label"),
        (".a", "empty label"),
        ("a.b..", "empty label"),
        ("x" * 64 + ".example", "63 characters"),
        (".".join(["x" * 50] * 6), "253 characters"),
        ("ü" * 2000, "253 characters"),
        ("*.example.com", "'\\*'"),
        ("a b.example", "'a b'"),
        ("-a.example", "'-a'"),
        ("a-.example", "'a-'"),
        ("a\n", "label"),
        ("a\0.example", "label"),
        ("user@example.com", "label"),
        ("192.0.2.1", "IP address"),
        ("\uff11\uff19\uff12.0.2.1", "IP address"),
        ("::1", "label"),
        ("\u2603.example", "internationalised"),
        ("\ud800.example", "internationalised"),
    ],
)
def test_what_is_no_host_name_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why):
        canonical_name(text)


def test_a_message_about_a_long_name_stays_short() -> None:
    with pytest.raises(InvalidName) as caught:
        canonical_name("é" * 1000)
    assert len(str(caught.value)) < 300


@given(NAME)
def test_case_and_a_trailing_dot_never_matter(name: str) -> None:
    assert canonical_name(name) == canonical_name(name.upper() + ".") == canonical_name(name.title()) == name


@given(GERMAN)
def test_a_u_label_and_its_a_label_agree_in_any_case(label: str) -> None:
    canonical = canonical_name(f"{label}.example")
    assert canonical_name(f"{label.upper()}.EXAMPLE") == canonical
    assert canonical_name(canonical.upper()) == canonical
    assert server_name(f"{label}.example".encode()) == canonical


@given(st.text())
def test_any_text_is_a_name_whose_form_is_stable_or_refused(text: str) -> None:
    try:
        canonical = canonical_name(text)
    except InvalidName:
        return
    assert canonical_name(canonical) == canonical
    assert canonical.isascii()
    assert 0 < len(canonical) <= 253


@given(st.binary(max_size=600))
def test_any_bytes_in_sni_are_a_name_an_address_or_refused(raw: bytes) -> None:
    try:
        name = server_name(raw)
    except InvalidName:
        return
    assert name is None or canonical_name(name) == name


def test_a_wildcard_is_a_pattern_and_covers_exactly_one_label() -> None:
    assert canonical_pattern("*.Example.COM.") == "*.example.com" == wildcard_of("www.example.com")
    assert wildcard_of("a.b.example.com") == "*.b.example.com"
    assert wildcard_of("example") is None


@pytest.mark.parametrize("text", ["*", "*.", "f*.example.com", "*f.example.com", "a.*.example.com", "*.*.example.com"])
def test_other_wildcards_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        canonical_pattern(text)


def test_a_wildcard_is_no_longer_than_a_name_may_be() -> None:
    name = ".".join(["x" * 50] * 4 + ["y" * 49])
    assert len(canonical_name(name)) == 253
    with pytest.raises(InvalidName, match="253"):
        canonical_pattern(f"*.{name}")


@pytest.mark.parametrize("raw", [b"192.0.2.1", b"::1", b"[2001:db8::1]", b"2001:DB8::A"])
def test_an_ip_literal_in_sni_counts_as_no_name(raw: bytes) -> None:
    assert server_name(raw) is None


def test_sni_is_taken_as_ascii_or_utf_8() -> None:
    assert server_name(b"WWW.example.com") == "www.example.com"
    assert server_name("bücher.example".encode()) == "xn--bcher-kva.example"
    with pytest.raises(InvalidName, match="UTF-8"):
        server_name(b"b\xfccher.example")
    with pytest.raises(InvalidName, match="bytes"):
        server_name(b"x" * 65535)


def test_san_names_and_addresses_count_and_the_cn_then_does_not(root: Authority) -> None:
    pair = root.issue(
        "WWW.example.com",
        "*.Example.com",
        "www.example.com",
        addresses=["2001:DB8::1", "192.0.2.1"],
        common_name="cn.example",
    )
    assert names_of(pair) == (("*.example.com", "www.example.com"), ("192.0.2.1", "2001:db8::1"))


def test_the_cn_counts_where_there_is_no_dns_san(root: Authority) -> None:
    assert names_of(root.issue(common_name="Mail.example.com")) == (("mail.example.com",), ())
    assert names_of(root.issue(common_name="*.example.com")) == (("*.example.com",), ())
    assert names_of(root.issue(common_name="mail.example.com", addresses=["192.0.2.1"])) == (
        ("mail.example.com",),
        ("192.0.2.1",),
    )
    assert names_of(root.issue(common_name="Example Corporation")) == ((), ())


def test_a_cn_that_is_an_address_counts_only_without_any_san(root: Authority) -> None:
    assert names_of(self_signed(common_name="192.0.2.7")) == ((), ("192.0.2.7",))
    assert names_of(root.issue(common_name="192.0.2.7", addresses=["192.0.2.1"])) == ((), ("192.0.2.1",))


def test_names_that_are_not_valid_are_left_out(root: Authority) -> None:
    pair = root.issue("f*o.example.com", "*", "a b.example", "192.0.2.1", "good.example", common_name="cn.example")
    assert names_of(pair) == (("good.example",), ())
    assert names_of(root.issue("*", common_name="cn.example")) == ((), ())
