from __future__ import annotations

from benchmarks.client import TLS12, Negotiated, Offer


def test_only_the_group_that_was_offered_first_is_agreed_upon() -> None:
    offer = Offer(TLS12, "X25519:P-256")
    assert offer.agrees(Negotiated("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "x25519"))
    assert not offer.agrees(Negotiated("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "secp256r1"))
