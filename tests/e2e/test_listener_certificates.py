"""A listener's own default certificate and its pins, over real handshakes."""

from __future__ import annotations

from pathlib import Path

from proxy.server_certificate import pin_of
from tests.support.pki import DAY, Authority
from tests.support.ports import free_port
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import shown

MX = "mx.example.com"
LISTENERS = """
[certificates]
directories = ["{certs}"]
trust = ["%s"]
default = "www.example.com"
[[listeners]]
name = "web"
bind = ["127.0.0.1:{port}"]
backend = "welcome"
[[listeners]]
name = "mx"
bind = ["127.0.0.1:%d"]
default = "mx.example.com"
pin = ["sha256/%s"]
backend = "welcome"
"""


def test_a_pinned_listener_keeps_its_key_and_its_default_while_better_certificates_come(tmp_path: Path) -> None:
    root = Authority.make()
    (tmp_path / "root.pem").write_bytes(root.pem)
    www, old = root.issue("www.example.com"), root.issue(MX, not_after=10 * DAY)
    mx = free_port()
    snigate = Snigate(tmp_path, LISTENERS % (tmp_path / "root.pem", mx, pin_of(old.certificate)))
    www.write(snigate.certs, "www")
    old.write(snigate.certs, "old")
    with snigate:
        assert shown(snigate.port).fingerprint == www.fingerprint
        assert shown(mx).fingerprint == old.fingerprint
        assert shown(mx, "unknown.example.org").fingerprint == old.fingerprint
        assert shown(mx, "www.example.com").fingerprint == www.fingerprint
        better = root.issue(MX, not_after=90 * DAY)
        better.write(snigate.certs, "better")
        wait_for(lambda: shown(snigate.port, MX).fingerprint == better.fingerprint, "the better one is served")
        for name in (MX, None):
            assert {shown(mx, name).fingerprint for _ in range(4)} == {old.fingerprint}
        explained = snigate.api(f"/api/v1/explain?host={MX}&listener=mx")
        assert (explained["listener"], explained["served"]) == ("mx", old.fingerprint)
        assert [one["pinned"] for one in explained["candidates"][:2]] == [True, False]
        assert explained["candidates"][1]["reason"].startswith("passed over, since its key is not pinned")
        assert snigate.api(f"/api/v1/explain?host={MX}")["served"] == better.fingerprint
        renewed = root.issue(MX, not_after=30 * DAY, key=old.key)
        renewed.write(snigate.certs, "old")
        wait_for(lambda: shown(mx, MX).fingerprint == renewed.fingerprint, "the renewed one is served")
        wait_for(lambda: shown(mx).fingerprint == renewed.fingerprint, "and as the default")
        found = {one["name"]: one for one in snigate.api("/api/v1/status")["listeners"]}
        assert (found["mx"]["tls"], found["mx"]["plain_text"]) == ("implicit", False)
        assert found["mx"]["default"] == MX
        said = snigate.log.count("whose key is none of its pins")
        assert said <= 2, "once in each worker that served www.example.com there"
