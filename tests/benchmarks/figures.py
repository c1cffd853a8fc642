"""Results out of thin air."""

from __future__ import annotations

from benchmarks.results import CaseResult, Machine, PeerResult, Results


def results() -> Results:
    """Two cases of one chart and one of another; a peer that could not, and one that was not there."""
    ecdsa = {
        "snigate": PeerResult(samples=[{"cpu_us": 600.0, "rate": 1500.0}, {"cpu_us": 900.0}, {"cpu_us": 700.0}]),
        "nginx": PeerResult(samples=[{"cpu_us": 1000.0, "rate": 1200.0}, {"cpu_us": 1400.0}]),
    }
    hybrid = {
        "snigate": PeerResult(samples=[{"cpu_us": 800.0}]),
        "nginx": PeerResult(note="it has no X25519MLKEM768"),
    }
    idle = {"snigate": PeerResult(samples=[{"kb_per_connection": 25.0, "peak_mb": 90.0}])}
    return Results(
        date="2026-01-02T03:04:05+00:00",
        commit="abc1234",
        machine=Machine(processor="Some CPU", cores=2, kernel="6.1", python="3.11", openssl="OpenSSL 4"),
        rounds=3,
        versions={"snigate": "0.1.0", "nginx": "1.22.1"},
        negotiated={"snigate": "TLSv1.3 TLS_AES_128_GCM_SHA256 x25519"},
        absent={"hitch": "hitch is not installed"},
        cases=[
            CaseResult(name="ecdsa", title="full handshake", figure="cpu_us", chart="handshakes", peers=ecdsa),
            CaseResult(name="hybrid", title="hybrid handshake", figure="cpu_us", chart="handshakes", peers=hybrid),
            CaseResult(name="idle", title="idle connection", figure="kb_per_connection", chart="idle", peers=idle),
        ],
    )
