"""The machine's clock jumps under load: certificates are judged by the new time, and nothing else depends on it."""

from __future__ import annotations

import re
import select
import socket
from pathlib import Path

from tests.e2e.test_processes import echoed, echoing
from tests.support.echo import EchoServer
from tests.support.fake_clock import FakeClock
from tests.support.load import Load
from tests.support.pki import Authority, self_signed
from tests.support.snigate import Snigate, wait_for
from tests.support.standing import unchanged
from tests.support.tls_client import connect, shown

NAME = "www.example.com"
HOUR = 3600
DAY = 24 * HOUR
JUMPS = (2 * HOUR, 0, -10 * DAY, 0)  # ahead of the time; every deadline here is shorter than 2 hours


def test_over_an_expiry_and_back_the_right_certificate_is_served_and_no_deadline_is_early(tmp_path: Path) -> None:
    root, clock = Authority.make(), FakeClock(tmp_path)
    (tmp_path / "root.pem").write_bytes(root.pem)
    best, spare = root.issue(NAME, not_after=HOUR), self_signed(NAME, not_after=400 * DAY)
    with EchoServer() as backend:
        certificates = f'[certificates]\ndirectories = ["{{certs}}"]\ntrust = ["{tmp_path / "root.pem"}"]\n'
        site = Snigate(tmp_path, echoing(backend) + certificates)
        deadlines = 'drain = "3s"\nhandshake_timeout = "1h"\nidle_timeout = "1h"'
        site.file.write_text(site.file.read_text().replace('drain = "3s"', deadlines))
        site.environment = clock.environment
        best.write(site.certs, "best")
        spare.write(site.certs, "spare")
        with site, unchanged(site), connect(site.port) as idle, Load(site.port) as load:
            assert echoed(idle, b"before") == b"before"
            with socket.create_connection(("127.0.0.1", site.port)) as stranger:
                for number, offset in enumerate(JUMPS):
                    clock.jump(offset)
                    expected = spare if offset else best
                    wait_for(
                        lambda right=expected: all(
                            shown(site.port, NAME).fingerprint == right.fingerprint for _ in range(10)
                        ),
                        f"the right certificate is served {offset} s off",
                    )
                    self_signed(f"new{number}.example", not_before=-20 * DAY).write(site.certs, f"new{number}")
                    load.more()
                    wait_for(
                        lambda: abs(scanned_at(site) - clock.time()) < HOUR, "files are looked at, and it is told when"
                    )
                assert not select.select([stranger], [], [], 0)[0], "it still has its hour"
            assert echoed(idle, b"after") == b"after"
            assert load.losses == []
            assert site.metric("snigate_worker_restarts_total") == 0
            assert 0 <= site.metric("snigate_event_loop_lag_seconds") < HOUR
            idle.unwrap()
        durations = [float(one) for one in re.findall(r" (?:total|handshake|connect)=([-\d.]+)s", site.log)]
        assert len(durations) > 100
        assert all(0 <= one < HOUR for one in durations)


def scanned_at(site: Snigate) -> float:
    return site.metric("snigate_certstore_last_scan_timestamp_seconds")
