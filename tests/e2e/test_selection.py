"""The nine levels over real handshakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from certstore.ranking import Order
from tests.support.nine_levels import DEFAULT_NAME, ORDERS, NineLevels
from tests.support.pki import DAY, Authority, self_signed
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context, request, shown

LISTENER = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'


def configuration(directory: Path, **certificates: str) -> str:
    """One listener with the welcome page, and the root of the test trusted."""
    said = "".join(f'{key} = "{value}"\n' for key, value in certificates.items())
    return f'[certificates]\ndirectories = ["{{certs}}"]\ntrust = ["{directory / "root.pem"}"]\n{said}\n{LISTENER}'


@pytest.mark.parametrize("order", ORDERS)
def test_the_better_of_two_levels_is_served_for_each_two_of_the_nine(tmp_path: Path, order: Order) -> None:
    levels = NineLevels(tmp_path / "certificates")
    (tmp_path / "root.pem").write_bytes(levels.root.pem)
    with Snigate(tmp_path, configuration(tmp_path, order=order, default=DEFAULT_NAME)) as snigate:
        for host, fingerprint, level in levels.expected(order):
            assert (host, shown(snigate.port, host).fingerprint) == (host, fingerprint)
            explained = snigate.api(f"/api/v1/explain?host={host}")
            assert (explained["served"], explained["candidates"][0]["level"]) == (fingerprint, level)
        assert shown(snigate.port).fingerprint == levels.default.fingerprint
        with connect(snigate.port, levels.expected(order)[0].host) as tls:
            assert b"1 (trusted, exact)" in request(tls)
        for number in range(1, 10):
            wait_for(
                lambda: snigate.metric("snigate_certificate_selections_total", level=str(number)) > 0,  # noqa: B023
                f"level {number} is counted",
            )


def test_the_key_type_follows_what_the_client_can_use_inside_a_level_and_across_levels(tmp_path: Path) -> None:
    root = Authority.make()
    (tmp_path / "root.pem").write_bytes(root.pem)
    snigate = Snigate(tmp_path, configuration(tmp_path))
    ecdsa = root.issue("www.example.com", not_after=30 * DAY)
    rsa = root.issue("www.example.com", not_after=60 * DAY, key_type="rsa-2048")
    only_ecdsa = root.issue("ecdsa.example.com")
    worse_rsa = self_signed("ecdsa.example.com", key_type="rsa-2048")
    for number, pair in enumerate((ecdsa, rsa, only_ecdsa, worse_rsa)):
        pair.write(snigate.certs, str(number))
    with snigate:
        modern, old = context(), context(ciphers="ECDHE+aRSA@SECLEVEL=1")
        old.maximum_version = old.minimum_version.TLSv1_2
        for name, for_modern, for_old in (
            ("www.example.com", ecdsa, rsa),
            ("ecdsa.example.com", only_ecdsa, worse_rsa),
        ):
            assert shown(snigate.port, name, using=modern).fingerprint == for_modern.fingerprint
            assert shown(snigate.port, name, using=old).fingerprint == for_old.fingerprint


def test_spellings_of_a_name_and_an_address_instead_of_one_reach_the_same_certificate(tmp_path: Path) -> None:
    snigate = Snigate(tmp_path, LISTENER)
    named = self_signed("www.Bücher.example".encode("idna").decode())
    addressed = self_signed("other.example", addresses=["127.0.0.1"])
    named.write(snigate.certs, "named")
    addressed.write(snigate.certs, "addressed")
    with snigate:
        for spelling in ("www.xn--bcher-kva.example", "WWW.XN--BCHER-KVA.Example", "www.bücher.example"):
            assert shown(snigate.port, spelling).fingerprint == named.fingerprint
        for nameless in (None, "127.0.0.1"):
            assert shown(snigate.port, nameless).fingerprint == addressed.fingerprint
