"""Keys made to keep whoever loads them busy for minutes: refused before any library sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certstore import der
from certstore.certificate import MAX_RSA_BITS
from certstore.errors import FileRejected, RejectReason
from certstore.load import parse_file
from certstore.private_key import MAX_KEY, read_private_key
from certstore.unlock import UnlockedFile
from tests.support.pki import new_key, self_signed

RSA = "2a864886f70d010101"
KINDS = {
    "DSA": "2a8648ce380401",
    "DH": "2a864886f70d010301",
    "X9.42 DH": "2a8648ce3e0201",
    "RSA-PSS": "2a864886f70d01010a",
}


def integer(value: int) -> bytes:
    return b"\x02" + der.sequence(value.to_bytes(value.bit_length() // 8 + 1, "big"))[1:]


def octets(data: bytes) -> bytes:
    return b"\x04" + der.sequence(data)[1:]


def odd(bits: int) -> int:
    """A number of that many bits that no library can tell from a product of primes in a hurry."""
    return (1 << (bits - 1)) | int.from_bytes(bytes(range(1, 256)) * (bits // 2040 + 1), "big") % (1 << (bits - 1)) | 1


def rsa(bits: int, d: int | None = None, primes: int | None = None) -> bytes:
    """PKCS#1 with a modulus of `bits` bits, a private exponent of `d` and primes of `primes`."""
    half = odd(primes or bits // 2)
    numbers = [odd(bits), 65537, odd(d or bits - 1), half, half, half, half, half]
    return der.sequence(integer(0), *map(integer, numbers))


def pkcs8(algorithm: str, parameters: bytes, key: bytes) -> bytes:
    oid = bytes.fromhex(algorithm)
    return der.sequence(integer(0), der.sequence(b"\x06" + bytes((len(oid),)) + oid, parameters), octets(key))


def refused(data: bytes) -> FileRejected:
    with pytest.raises(FileRejected) as caught:
        parse_file(data)
    return caught.value


@pytest.mark.parametrize("wrapped", [False, True])
def test_rsa_of_an_absurd_size_is_refused_with_the_size_that_is_taken(wrapped: bool) -> None:
    for bits in (MAX_RSA_BITS + 1, 16_384, 25_000):
        key = pkcs8(RSA, b"\x05\x00", rsa(bits)) if wrapped else rsa(bits)
        error = refused(key)
        assert error.reason is RejectReason.UNSUPPORTED
        assert f"{bits} bits, and more than {MAX_RSA_BITS}" in error.message
    assert refused(rsa(65_536)).reason is RejectReason.OVERSIZED


def test_an_rsa_key_whose_other_numbers_are_absurd_is_refused() -> None:
    for key in (rsa(2048, d=60_000), rsa(2048, primes=8000), rsa(8192, primes=8000)):
        assert refused(key).reason is RejectReason.MISMATCHED_KEY


def test_a_certificate_with_an_absurd_rsa_key_is_refused_with_the_size_that_is_taken() -> None:
    pair = self_signed("a.example", key=new_key("rsa-2048"))
    info = der.sequence(bytes.fromhex("300d06092a864886f70d0101010500"))[2:]
    at = pair.der.index(info)
    spki = der.element(pair.der, at - 4)
    bits = b"\x00" + der.sequence(integer(odd(16_384)), integer(65537))
    larger = der.sequence(info, b"\x03" + der.sequence(bits)[1:])
    outer = der.element(pair.der)
    tbs, *rest = der.children(pair.der, outer)
    body = pair.der[tbs.content : spki.start] + larger + pair.der[spki.end : tbs.end]
    changed = der.sequence(der.sequence(body), pair.der[rest[0].start : outer.end])
    error = refused(changed)
    assert error.reason is RejectReason.UNSUPPORTED
    assert "16384 bits" in error.message


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_that_compute_when_they_are_loaded_are_refused_unloaded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the key was loaded")

    monkeypatch.setattr("certstore.private_key.load_der_private_key", load)
    numbers = der.sequence(integer(odd(8192)), integer(odd(8190)), integer(odd(8191)))
    assert refused(pkcs8(KINDS[kind], numbers, integer(odd(8100)))).reason is RejectReason.UNSUPPORTED


def test_a_key_that_is_too_large_is_refused_whatever_it_is() -> None:
    error = refused(pkcs8("2a8648ce3d0201", b"", bytes(MAX_KEY)))
    assert error.reason is RejectReason.OVERSIZED
    assert str(MAX_KEY) in error.message


def test_what_the_unlocking_child_hands_back_is_looked_at_as_well() -> None:
    for key, reason in ((rsa(16_384), RejectReason.UNSUPPORTED), (rsa(65_536), RejectReason.OVERSIZED)):
        with pytest.raises(FileRejected) as caught:
            parse_file(self_signed("a.example").p12(b"x"), (b"x",), lambda *_: UnlockedFile((), (key,)))  # noqa: B023
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    "key_type", ["rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448"]
)
def test_keys_in_use_are_taken(key_type: str) -> None:
    pair = self_signed("a.example", key_type=key_type)
    assert read_private_key(pair.key_der).key_type == key_type


@given(st.sampled_from((b"", bytes.fromhex("020100"))), st.binary(max_size=200))
def test_random_bytes_in_a_sequence_are_a_key_or_refused(start: bytes, data: bytes) -> None:
    with pytest.raises(FileRejected):
        read_private_key(der.sequence(start, data))
