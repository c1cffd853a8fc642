from __future__ import annotations

import ssl
from typing import Any

import pytest

from certstore.key_types import KeyTypes
from proxy.client_hello import ClientHello, usable_key_types
from tests.support import client_hellos as hellos
from tests.support.client_hello_reading import REAL, read
from tests.support.client_hellos import TLS_1_2, TLS_1_3, message, records

ECDSA = KeyTypes.ECDSA_P256 | KeyTypes.ECDSA_P384 | KeyTypes.ECDSA_P521


def hello_of(*extensions: tuple[int, bytes], ciphers: tuple[int, ...] = (0x1301, 0xC02B, 0xC02F)) -> ClientHello:
    return read(records(message(list(extensions), ciphers)))


BOTH = hellos.versions(TLS_1_3, TLS_1_2)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (0x0403, KeyTypes.ECDSA_P256),
        (0x0503, KeyTypes.ECDSA_P384),
        (0x0603, KeyTypes.ECDSA_P521),
        (0x0804, KeyTypes.RSA),
        (0x0805, KeyTypes.RSA),
        (0x0806, KeyTypes.RSA),
        (0x0807, KeyTypes.ED25519),
        (0x0808, KeyTypes.ED448),
        (0x0401, KeyTypes(0)),  # rsa_pkcs1: for certificates' own signatures only
        (0x0809, KeyTypes(0)),  # rsa_pss_pss: for RSASSA-PSS keys only
        (0x0203, KeyTypes(0)),
        (0x7A7A, KeyTypes(0)),
    ],
)
def test_in_tls_1_3_each_signature_scheme_stands_for_one_key_type(scheme: int, expected: KeyTypes) -> None:
    assert hello_of(BOTH, hellos.schemes(scheme), hellos.groups(29)).key_types == expected


def test_in_tls_1_3_several_schemes_add_up() -> None:
    hello = hello_of(BOTH, hellos.schemes(0x0403, 0x0807, 0x0804))
    assert hello.key_types == KeyTypes.ECDSA_P256 | KeyTypes.ED25519 | KeyTypes.RSA


def test_in_tls_1_2_the_groups_bind_the_curve_and_the_scheme_does_not() -> None:
    schemes = hellos.schemes(0x0403)
    assert hello_of(schemes, hellos.groups(29, 24)).key_types == KeyTypes.ECDSA_P384
    assert hello_of(schemes, hellos.groups(23, 25)).key_types == KeyTypes.ECDSA_P256 | KeyTypes.ECDSA_P521
    assert hello_of(schemes, hellos.groups(29)).key_types == KeyTypes(0)
    assert hello_of(schemes).key_types == ECDSA


@pytest.mark.parametrize("suite", [0xC02F, 0x009E, 0x009C])
def test_in_tls_1_2_a_suite_of_the_authentication_is_needed(suite: int) -> None:
    schemes = hellos.schemes(0x0403, 0x0807, 0x0401)
    assert hello_of(schemes, ciphers=(suite,)).key_types == KeyTypes.RSA
    assert hello_of(schemes, ciphers=(0xC02B,)).key_types == ECDSA | KeyTypes.ED25519
    assert hello_of(schemes, ciphers=(0xC02B, suite)).key_types == ECDSA | KeyTypes.ED25519 | KeyTypes.RSA
    assert hello_of(hellos.schemes(0x0808), ciphers=(0xC02B,)).key_types == KeyTypes.ED448
    assert hello_of(schemes, ciphers=(0xC006, 0x0002, 0x0005)).key_types == KeyTypes(0)


def test_in_tls_1_2_rsa_needs_an_rsa_scheme_where_schemes_are_sent() -> None:
    assert hello_of(hellos.schemes(0x0403)).key_types == ECDSA
    for scheme in (0x0401, 0x0501, 0x0601, 0x0201, 0x0804):
        assert hello_of(hellos.schemes(scheme)).key_types == KeyTypes.RSA


def test_without_schemes_the_suites_alone_decide_and_eddsa_is_out() -> None:
    assert hello_of().key_types == ECDSA | KeyTypes.RSA
    assert hello_of(hellos.groups(23), ciphers=(0xC02B,)).key_types == KeyTypes.ECDSA_P256
    assert hello_of(ciphers=(0x002F,)).key_types == KeyTypes.RSA


def test_before_tls_1_2_schemes_mean_nothing() -> None:
    hello = read(records(message([hellos.schemes(0x0401)], (0xC009, 0x002F), legacy_version=0x0301)))
    assert hello.key_types == ECDSA | KeyTypes.RSA
    modern = hello_of(hellos.versions(TLS_1_2, 0x0302), hellos.schemes(0x0401))
    assert usable_key_types(modern, TLS_1_2) == KeyTypes.RSA
    assert usable_key_types(modern, 0x0302) == ECDSA | KeyTypes.RSA


def test_the_policy_decides_which_version_s_rule_holds() -> None:
    hello = hello_of(BOTH, hellos.schemes(0x0403, 0x0401), hellos.groups(29, 24))
    assert usable_key_types(hello) == hello.key_types == KeyTypes.ECDSA_P256
    assert usable_key_types(hello, TLS_1_2) == KeyTypes.ECDSA_P384 | KeyTypes.RSA


def test_tls_1_3_without_a_tls_1_3_suite_falls_back_to_the_rule_of_tls_1_2() -> None:
    hello = hello_of(BOTH, hellos.schemes(0x0403), hellos.groups(24), ciphers=(0xC02B,))
    assert hello.key_types == KeyTypes.ECDSA_P384


@pytest.mark.parametrize("client", REAL)
def test_current_clients_can_use_ecdsa_and_rsa_under_every_policy(client: str) -> None:
    hello = read(REAL[client]())
    both = KeyTypes.ECDSA_P256 | KeyTypes.ECDSA_P384 | KeyTypes.RSA
    for version in hello.versions:
        assert usable_key_types(hello, version) & both == both


def test_every_suite_of_openssl_is_known_by_its_authentication() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    expected = {
        ("auth-ecdsa", "kx-ecdhe"): ECDSA,
        ("auth-rsa", "kx-ecdhe"): KeyTypes.RSA,
        ("auth-rsa", "kx-dhe"): KeyTypes.RSA,
        ("auth-rsa", "kx-rsa"): KeyTypes.RSA,
    }
    suites: list[dict[str, Any]] = [dict(suite) for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert len(suites) > 50
    for suite in suites:
        usable = hello_of(ciphers=(suite["id"] & 0xFFFF,)).key_types
        assert usable == expected.get((suite["auth"], suite["kea"]), KeyTypes(0)), suite["name"]
