from __future__ import annotations

import hashlib
import ssl

import pytest

from proxy.client_hello import ClientHello
from proxy.ja4 import ja4
from tests.support import client_hellos as hellos
from tests.support.client_hello_reading import read


def listed(text: str) -> tuple[int, ...]:
    """Numbers as the specification prints them."""
    return tuple(int(number, 16) for number in text.split(","))


# The example of FoxIO's specification, in its original order.
EXAMPLE = ClientHello(
    server_name="www.example.com",
    alpn=(b"h2", b"http/1.1"),
    versions=(0x0304, 0x0303),
    signature_algorithms=listed("0403,0804,0401,0503,0805,0501,0806,0601"),
    groups=(29, 23, 24),
    cipher_suites=listed("1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"),
    extensions=listed("001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"),
    legacy_version=0x0303,
)


def changed(**fields: object) -> ClientHello:
    values = {name: getattr(EXAMPLE, name) for name in EXAMPLE.__struct_fields__}
    return ClientHello(**{**values, **fields})


def test_the_specification_s_example_has_its_published_fingerprint() -> None:
    assert EXAMPLE.ja4() == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_a_chrome_with_alps_has_its_published_fingerprint() -> None:
    assert read(hellos.chrome()).ja4() == "t13d1516h2_8daaf6152771_d8a2da3f94cd"


def test_a_client_with_ten_suites_has_its_published_fingerprint() -> None:
    hello = changed(
        cipher_suites=listed("c02b,c02f,c02c,c030,cca9,cca8,1301,1302,1303,00ff"),
        extensions=listed("0000,0005,000a,000b,000d,0010,0017,0023,002b,002d,0033"),
        signature_algorithms=listed("0503,0403,0807,0806,0805,0804,0601,0501,0401"),
    )
    assert hello.ja4() == "t13d1011h2_61a7ad8aa9b6_3fcd1a44f3e3"


def test_without_signature_algorithms_there_is_no_underscore() -> None:
    assert changed(signature_algorithms=()).ja4() == "t13d1516h2_8daaf6152771_6d807ffa2a79"


def test_empty_lists_are_written_as_zeros() -> None:
    hello = changed(cipher_suites=(), extensions=(0, 16), signature_algorithms=())
    assert hello.ja4() == "t12d0002h2_000000000000_000000000000"


def test_the_order_of_suites_and_extensions_does_not_matter_and_that_of_schemes_does() -> None:
    same = changed(cipher_suites=EXAMPLE.cipher_suites[::-1], extensions=EXAMPLE.extensions[::-1])
    assert same.ja4() == EXAMPLE.ja4()
    other = changed(signature_algorithms=EXAMPLE.signature_algorithms[::-1])
    assert other.ja4() != EXAMPLE.ja4()


@pytest.mark.parametrize("grease", [0x0A0A, 0x7A7A, 0xFAFA])
def test_grease_is_ignored_everywhere(grease: int) -> None:
    hello = changed(
        cipher_suites=(grease, *EXAMPLE.cipher_suites),
        extensions=(grease, *EXAMPLE.extensions, 0x1A1A),
        signature_algorithms=(grease, *EXAMPLE.signature_algorithms),
    )
    assert hello.ja4() == EXAMPLE.ja4()


@pytest.mark.parametrize("looks_like", [0x0A1A, 0x0B0B, 0x0AAA])
def test_what_only_looks_like_grease_counts(looks_like: int) -> None:
    assert changed(cipher_suites=(*EXAMPLE.cipher_suites, looks_like)).ja4().startswith("t13d1616h2_")


@pytest.mark.parametrize(
    ("alpn", "characters"),
    [
        ((), "00"),
        ((b"h2",), "h2"),
        ((b"http/1.1", b"h2"), "h1"),
        ((b"x",), "xx"),
        ((b"\xab",), "ab"),
        ((b"\xab\xcd",), "ad"),
        ((b"\x30\xab",), "3b"),
        ((b"\x30\x31\xab\xcd",), "3d"),
        ((b"\x30\xab\xcd\x31",), "01"),
    ],
)
def test_the_first_alpn_name_gives_two_characters(alpn: tuple[bytes, ...], characters: str) -> None:
    assert changed(alpn=alpn).ja4()[8:10] == characters


def test_more_than_99_are_counted_as_99() -> None:
    hello = changed(cipher_suites=tuple(range(100)), extensions=tuple(range(250)))
    assert hello.ja4()[4:8] == "9999"


def test_a_client_without_a_name_is_written_with_i() -> None:
    assert read(hellos.from_stdlib(name=None)).ja4()[3] == "i"
    assert read(hellos.from_stdlib()).ja4()[3] == "d"


@pytest.mark.parametrize(
    ("version", "characters"),
    [(0x0303, "12"), (0x0302, "11"), (0x0301, "10"), (0x0300, "s3"), (0x0304, "13"), (0x0305, "00")],
)
def test_without_supported_versions_the_legacy_version_is_written(version: int, characters: str) -> None:
    assert read(hellos.records(hellos.message([], legacy_version=version))).ja4()[1:3] == characters


def test_the_highest_supported_version_is_written() -> None:
    hello = read(hellos.records(hellos.message([hellos.versions(0x0303, 0x6A6A, 0x0304)])))
    assert hello.ja4()[1:3] == "13"
    assert read(hellos.from_stdlib(maximum=ssl.TLSVersion.TLSv1_2)).ja4()[1:3] == "12"


def test_the_transport_is_the_first_character() -> None:
    assert [ja4(EXAMPLE, "t")[0], ja4(EXAMPLE, "q")[0], EXAMPLE.ja4("d")[0]] == ["t", "q", "d"]


def test_a_real_client_s_fingerprint_agrees_with_one_computed_from_the_specification_s_words() -> None:
    hello = read(hellos.from_pyopenssl(alpn=(b"h2",)))
    suites = ",".join(sorted(f"{suite:04x}" for suite in hello.cipher_suites))
    extensions = ",".join(sorted(f"{kind:04x}" for kind in hello.extensions if kind not in (0, 16)))
    schemes = ",".join(f"{scheme:04x}" for scheme in hello.signature_algorithms)
    expected = "_".join(
        [
            f"t13d{len(hello.cipher_suites):02d}{len(hello.extensions):02d}h2",
            hashlib.sha256(suites.encode()).hexdigest()[:12],
            hashlib.sha256(f"{extensions}_{schemes}".encode()).hexdigest()[:12],
        ]
    )
    assert hello.ja4() == expected
