from __future__ import annotations

import pytest

from certstore.key_types import KeyTypes, of_key_type


def test_a_certificate_s_key_type_has_a_flag() -> None:
    names = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448", "rsa-2048")
    flags = [of_key_type(name) for name in names]
    assert flags == list(KeyTypes)[:6]
    assert of_key_type("rsa-8192") == KeyTypes.RSA
    assert sum(flags) == KeyTypes.ALL


@pytest.mark.parametrize("name", ["dsa-1024", "rsa", "rsa-", "rsa-big", "", "ecdsa-p224"])
def test_an_unknown_key_type_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="known are ecdsa-p256"):
        of_key_type(name)
