from __future__ import annotations

import ssl

import pytest
from cryptography import x509

from proxy import served_certificate
from proxy.served_certificate import SHORT_NAMES, Algorithms, algorithms
from tests.support.pki import Authority, self_signed


@pytest.mark.parametrize(
    ("key_type", "said"),
    [
        ("ecdsa-p256", Algorithms("ecdsa-with-SHA256", "EC256")),
        ("ecdsa-p384", Algorithms("ecdsa-with-SHA256", "EC384")),
        ("rsa-2048", Algorithms("RSA-SHA256", "RSA2048")),
        ("ed25519", Algorithms("ED25519", None)),
    ],
)
def test_a_certificate_is_described_as_haproxy_does(key_type: str, said: Algorithms) -> None:
    assert algorithms(self_signed("www.example.com", key_type=key_type).der) == said


def test_the_signature_is_the_authority_s_and_the_key_the_certificate_s_own() -> None:
    pair = Authority.make("Root", key_type="ecdsa-p256").issue("www.example.com", key_type="rsa-2048")
    assert algorithms(pair.der) == Algorithms("ecdsa-with-SHA256", "RSA2048")


def test_it_is_worked_out_once_for_each_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    der = self_signed("once.example.com").der
    first = algorithms(der)
    monkeypatch.setattr(x509, "load_der_x509_certificate", None)
    assert algorithms(bytes(bytearray(der))) is first
    assert served_certificate.algorithms.cache_info().maxsize == served_certificate.KEPT


def test_the_short_names_are_openssl_s() -> None:
    for number, name in SHORT_NAMES.items():
        assert ssl._ASN1Object(number).shortname == name
