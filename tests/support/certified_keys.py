"""CertifiedKeys out of thin air, for tests of what ranks, indexes and passes them on but never parses them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hypothesis import strategies as st
from msgspec import structs

from certstore.certified_key import CertifiedKey

NOW = 1_000_000  # Unix seconds, the middle of every certificate's life unless a test says otherwise
NAMES = ("www.example.com", "mail.example.com", "*.example.com", "example.com", "*.org")
KEY_TYPES = ("ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048")


def certified_key(
    label: str,
    *names: str,
    addresses: Sequence[str] = (),
    key_type: str = "ecdsa-p256",
    not_before: int = NOW - 1000,
    not_after: int = NOW + 1000,
    self_signed: bool = False,
    trusted: tuple[int, int] | bool = False,
    chain: Sequence[bytes] = (),
) -> CertifiedKey:
    """An entry whose fingerprint comes from `label`; `trusted` is a span, or True for the whole validity."""
    since, until = (not_before, not_after) if trusted is True else trusted or (0, 0)
    return CertifiedKey(
        fingerprint=hashlib.sha256(label.encode()).hexdigest(),
        names=tuple(sorted(names)),
        addresses=tuple(addresses),
        key_type=key_type,
        not_before=not_before,
        not_after=not_after,
        self_signed=self_signed,
        trusted_from=since,
        trusted_until=until,
        leaf=label.encode(),
        chain=tuple(chain),
        key=b"key of " + label.encode(),
        paths=(f"/certs/{label}.crt", f"/certs/{label}.key"),
    )


def with_public_key(one: CertifiedKey, public_key: str) -> CertifiedKey:
    """The same entry, its leaf the outline of a certificate with a public key that is equal for equal labels."""
    empty = _element(0x30, b"")
    outline = (
        _element(0x02, b"\1"),
        empty,
        empty,
        empty,
        _element(0x30, one.leaf),
        _element(0x30, public_key.encode()),
    )
    return structs.replace(one, leaf=_element(0x30, _element(0x30, b"".join(outline))))


def pin_of(public_key: str) -> bytes:
    """The digest of what `with_public_key` puts into a leaf."""
    return hashlib.sha256(_element(0x30, public_key.encode())).digest()


def _element(tag: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes((tag, len(content))) + content


@st.composite
def certified_keys(draw: st.DrawFn, label: str | None = None) -> CertifiedKey:
    """Any entry, its times close to NOW and to those of others, so that ties and turning points come up."""
    near = st.integers(NOW - 3, NOW + 3)
    not_before, not_after = sorted(draw(st.tuples(near, near)))
    kind = draw(st.sampled_from(("trusted", "self-signed", "valid")))
    return certified_key(
        label if label is not None else str(draw(st.integers(0, 9))),
        *draw(st.sets(st.sampled_from(NAMES), min_size=1)),
        key_type=draw(st.sampled_from(KEY_TYPES)),
        not_before=not_before,
        not_after=not_after,
        self_signed=kind == "self-signed",
        trusted=(not_before, draw(st.integers(not_before, not_after))) if kind == "trusted" else False,
    )


def several(minimum: int = 0, maximum: int = 8) -> st.SearchStrategy[list[CertifiedKey]]:
    """Some entries, each with a fingerprint of its own."""
    return st.integers(minimum, maximum).flatmap(
        lambda count: st.tuples(*(certified_keys(str(number)) for number in range(count))).map(list)
    )
