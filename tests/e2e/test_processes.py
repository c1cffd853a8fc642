"""Processes die, stop and start again: only what has to be lost is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.echo import EchoServer
from tests.support.pki import self_signed
from tests.support.snigate import PROGRAM, Snigate, wait_for
from tests.support.tls_client import connect, shown

WELCOME = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'


def pid_of(snigate: Snigate, role: str, number: int = 0) -> int:
    """The process that does this now; 0 while there is none."""
    for process in snigate.api("/api/v1/status")["processes"]:
        if process["role"] == role and process["number"] == number:
            return int(process["pid"] or 0)
    raise AssertionError(f"no {role} {number}")


def echoing(backend: EchoServer) -> str:
    return WELCOME.replace('"welcome"', f'"127.0.0.1:{backend.port}"')


def echoed(tls: object, data: bytes) -> bytes:
    tls.sendall(data)  # type: ignore[attr-defined]
    answer = b""
    while len(answer) < len(data):
        answer += tls.recv(65536)  # type: ignore[attr-defined]
    return answer


def test_a_killed_worker_is_replaced_and_connections_that_waited_are_served(tmp_path: Path) -> None:
    with Snigate(tmp_path, WELCOME, workers=1) as snigate:
        victim = pid_of(snigate, "worker")
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):  # those that arrive while nobody accepts wait in the slot's queue
            shown(snigate.port)
        wait_for(lambda: pid_of(snigate, "worker") not in (0, victim), "another worker is there")
        assert snigate.metric("snigate_worker_restarts_total") == 1
        snigate.expect_new_workers()
        assert "was killed by signal 9" in snigate.log


def test_a_worker_whose_loop_does_not_turn_is_replaced(tmp_path: Path) -> None:
    with Snigate(tmp_path, WELCOME, workers=2) as snigate:
        stopped = snigate.workers()[0].pid
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: "worker 0 has given no sign of life for 5 s; it is killed" in snigate.log, "it is noticed")
        snigate.expect_new_workers()
        assert stopped not in [one.pid for one in snigate.workers()]
        assert len(snigate.workers()) == 2


def test_without_the_keeper_the_last_good_set_serves_on_and_the_next_keeper_catches_up(tmp_path: Path) -> None:
    old, new = self_signed("a.example", not_after=3600), self_signed("a.example", not_after=7200)
    snigate = Snigate(tmp_path, WELCOME)
    old.write(snigate.certs, "old")
    with snigate:
        victim = pid_of(snigate, "keeper")
        os.kill(victim, signal.SIGKILL)
        assert shown(snigate.port, "a.example").fingerprint == old.fingerprint
        new.write(snigate.certs, "new")
        wait_for(
            lambda: all(shown(snigate.port, "a.example").fingerprint == new.fingerprint for _ in range(8)),
            "the certificate that came meanwhile is served",
        )
        assert pid_of(snigate, "keeper") != victim
        assert snigate.metric("snigate_worker_restarts_total") == 0


def test_traffic_does_not_notice_when_control_dies(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, echoing(backend)) as snigate:
        victim = pid_of(snigate, "control")
        with connect(snigate.port) as tls:
            assert echoed(tls, b"before") == b"before"
            os.kill(victim, signal.SIGKILL)
            assert echoed(tls, b"after") == b"after"
            shown(snigate.port)
            wait_for(lambda: snigate.get("/readyz", token=False)[0] == 200, "the admin address answers again")
            assert pid_of(snigate, "control") != victim
            assert echoed(tls, b"and on") == b"and on"
            tls.unwrap()


def test_sigterm_fails_readiness_lets_connections_finish_and_ends_with_status_0(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, echoing(backend)) as snigate:
        assert snigate.get("/readyz", token=False)[0] == 200
        with connect(snigate.port) as tls:
            assert echoed(tls, b"before") == b"before"
            assert snigate.process is not None
            snigate.process.send_signal(signal.SIGTERM)
            wait_for(lambda: snigate.get("/readyz", token=False)[0] == 503, "readiness fails")
            assert echoed(tls, b"x" * 100_000) == b"x" * 100_000
            tls.unwrap()
        assert snigate.process.wait(20) == 0


def test_before_it_drains_readiness_fails_for_a_while_and_connections_are_accepted(tmp_path: Path) -> None:
    with EchoServer() as backend:
        site = Snigate(tmp_path, echoing(backend))
        site.file.write_text(site.file.read_text().replace('drain = "3s"', 'drain = "3s"\npredrain = "1h"'))
        with site:
            assert site.process is not None
            site.process.send_signal(signal.SIGTERM)
            wait_for(lambda: site.get("/readyz", token=False)[0] == 503, "readiness fails")
            with connect(site.port) as tls:
                assert echoed(tls, b"still") == b"still"
                os.kill(site.workers()[0].pid, signal.SIGKILL)
                site.reload()
                wait_for(lambda: site.api("/api/v1/status")["generation"] == 2, "it may be reloaded even now")
            with connect(site.port) as tls:
                assert echoed(tls, b"and still") == b"and still"
                time.sleep(1.1)  # several signals within a second are one
                site.process.send_signal(signal.SIGTERM)
                wait_for(lambda: "stopping: no new connections" in site.log, "a second signal ends the wait")
                tls.unwrap()
            assert site.process.wait(20) == 0


def test_after_its_time_it_drains_by_itself(tmp_path: Path) -> None:
    site = Snigate(tmp_path, WELCOME)
    site.file.write_text(site.file.read_text().replace('drain = "3s"', 'drain = "3s"\npredrain = "500ms"'))
    with site:
        assert site.stop() == 0
        assert "leaving: connections are accepted for 0.5 s more, while readiness fails" in site.log
        assert "stopping: no new connections" in site.log


def test_when_the_supervisor_is_killed_all_end_and_a_restart_finds_the_ports_free(tmp_path: Path) -> None:
    with Snigate(tmp_path, WELCOME) as snigate:
        assert snigate.process is not None
        children = [one.pid for one in snigate.children()]
        assert len(children) == 4
        snigate.process.kill()
        snigate.process.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "the children have ended")
        snigate.start()
        shown(snigate.port)


@pytest.mark.parametrize("same", ["port", "state directory"])
def test_a_second_instance_is_refused_in_one_clear_sentence(tmp_path: Path, same: str) -> None:
    with Snigate(tmp_path / "first", WELCOME) as first:
        second = Snigate(tmp_path / "second", WELCOME)
        text = second.file.read_text()
        if same == "port":
            second.file.write_text(text.replace(f":{second.port}", f":{first.port}"))
            expected = f"listener web: cannot bind 127.0.0.1:{first.port}"
        else:
            second.file.write_text(text.replace(str(second.state), str(first.state)))
            assert first.process is not None
            expected = f"another snigate (process {first.process.pid}) uses the state directory {first.state}"
        refused = subprocess.run([PROGRAM, "serve", "--config", second.file], capture_output=True, timeout=30)
        assert refused.returncode == 1
        said = refused.stderr.decode()
        assert expected in " ".join(said.split())
        assert "Traceback" not in said
        shown(first.port)


def test_strict_sni_refuses_names_without_a_certificate(tmp_path: Path) -> None:
    pair = self_signed("a.example")
    snigate = Snigate(tmp_path, WELCOME + "strict_sni = true\n", name="a.example")
    pair.write(snigate.certs)
    with snigate:
        assert shown(snigate.port, "a.example").fingerprint == pair.fingerprint
        with pytest.raises(OSError, match="unrecognized name"):
            shown(snigate.port, "b.example")
        wait_for(
            lambda: snigate.metric("snigate_handshake_failures_total", reason="unrecognized_name") == 1, "it is counted"
        )
