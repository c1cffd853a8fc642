"""What the clock alone changes, within a second and with no file event."""

from __future__ import annotations

from pathlib import Path

from tests.support.pki import Authority, Pair, self_signed
from tests.support.snigate import Snigate
from tests.support.traffic import Traffic, Visit

BOUND = 1.0  # seconds
AHEAD = 4.0  # seconds until the clock changes something
LISTENER = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'


def assert_changes_at(moment: int, visits: list[Visit], before: Pair, after: Pair) -> None:
    """Nobody is shown the next certificate early; nobody the one before later than BOUND."""
    assert {visit.fingerprint for visit in visits if visit.ended < moment} == {before.fingerprint}
    assert {visit.fingerprint for visit in visits if visit.began > moment + BOUND} <= {after.fingerprint}
    assert visits[-1].fingerprint == after.fingerprint


def test_an_expired_certificate_gives_way_and_one_that_becomes_valid_takes_over(tmp_path: Path) -> None:
    root = Authority.make()
    (tmp_path / "root.pem").write_bytes(root.pem)
    certificates = f'[certificates]\ndirectories = ["{{certs}}"]\ntrust = ["{tmp_path / "root.pem"}"]\n\n'
    with Snigate(tmp_path, certificates + LISTENER) as snigate:
        expiring, next_best = root.issue("expiring.example.com", not_after=AHEAD), self_signed("expiring.example.com")
        present, coming = self_signed("coming.example.com"), root.issue("coming.example.com", not_before=AHEAD)
        (snigate.certs / "all.pem").write_bytes(
            b"".join(pair.combined_pem for pair in (expiring, next_best, present, coming))
        )
        with (
            Traffic(snigate.port, "expiring.example.com") as leaving,
            Traffic(snigate.port, "coming.example.com") as arriving,
        ):
            leaving.settles_on(expiring.fingerprint)
            arriving.settles_on(present.fingerprint)
            leaving.visits.clear()
            arriving.visits.clear()
            before = snigate.api("/api/v1/status")["store"]
            leaving.settles_on(next_best.fingerprint)
            arriving.settles_on(coming.fingerprint)
            after = snigate.api("/api/v1/status")["store"]
        assert (before["change"], before["last_scan"]) == (after["change"], after["last_scan"])
        assert_changes_at(expiring.not_after, leaving.visits, expiring, next_best)
        assert_changes_at(coming.not_before, arriving.visits, present, coming)
        assert not leaving.failures
        assert not arriving.failures
        assert snigate.api("/api/v1/explain?host=expiring.example.com")["served"] == next_best.fingerprint
