"""Configurations change while snigate serves: what is bad changes nothing, what is good loses no connection."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_processes import echoed, pid_of
from tests.support.echo import EchoServer
from tests.support.greeter import Greeter
from tests.support.pki import self_signed
from tests.support.ports import free_port
from tests.support.snigate import PROGRAM, Snigate, wait_for
from tests.support.tls_client import connect, context, shown
from tests.support.visitors import Visitors

RELOADS = 200
LISTENER = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "%s"\n'
WELCOME = LISTENER % "welcome"


def change(snigate: Snigate, old: str, new: str) -> None:
    """Edit the configuration as most editors do: a new file takes the old one's place."""
    text = snigate.file.read_text()
    assert old in text
    fresh = snigate.file.with_suffix(".new")
    fresh.write_text(text.replace(old, new))
    fresh.rename(snigate.file)


def reloaded(snigate: Snigate) -> None:
    status, said = snigate.reload()
    assert status == 0, said
    assert "reloaded: generation" in said


def refused(snigate: Snigate) -> str:
    """Reload in vain; what the command said."""
    before = pids(snigate)
    status, said = snigate.reload()
    assert status == 1, said
    assert "everything stays as it is" in said
    assert pids(snigate) == before
    return said


def pids(snigate: Snigate) -> list[int]:
    """Every process there is now; 0 for one that is to be started again."""
    return sorted(one["pid"] or 0 for one in snigate.api("/api/v1/status")["processes"])


def states(snigate: Snigate) -> list[tuple[int, str]]:
    """Generation and state of every worker."""
    found = snigate.api("/api/v1/status")["processes"]
    return sorted((one["generation"], one["state"]) for one in found if one["role"] == "worker")


def told(snigate: Snigate, name: str = "a.example") -> str:
    """What the backend says to whoever connects."""
    with connect(snigate.port, name) as tls:
        said = tls.recv(100).decode()
        assert tls.recv(100) == b""
        tls.unwrap()
    return said


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[server]", "nonsense = 1\n[server]", "unknown key 'nonsense'"),
        ('backend = "welcome"', 'backend = "nowhere"', 'there is no backend "nowhere"'),
        ('bind = ["127.0.0.1:', 'bind = ["203.0.113.1:1443", "127.0.0.1:', "cannot bind 203.0.113.1:1443"),
        ('state"', 'elsewhere"', "server.state_directory cannot change"),
        ("[server]", '[server]\nuser = "nobody"', "server.user cannot change"),
        ("[server]", '[server]\nuser = "nobody-at-all"', 'there is no user "nobody-at-all"'),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_in_log_metric_and_answer(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    with Snigate(tmp_path, WELCOME) as snigate:
        path = snigate.state / "control.sock"
        change(snigate, old, new)
        if "elsewhere" in new:  # the command, too, would look there
            (tmp_path / "elsewhere").mkdir()
            (tmp_path / "elsewhere/control.sock").symlink_to(path)
        said = refused(snigate)
        assert sentence in said
        assert any(sentence in line for line in snigate.log.splitlines() if " error supervisor: reload refused" in line)
        assert snigate.metric("snigate_config_reloads_total", result="rejected") == 1
        assert snigate.metric("snigate_config_reloads_total", result="applied") == 0
        shown(snigate.port)
        change(snigate, new, old)
        reloaded(snigate)
        assert snigate.metric("snigate_config_reloads_total", result="applied") == 1


def test_every_address_that_is_taken_is_named_and_none_is_left_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, Snigate(tmp_path, WELCOME) as snigate:
        taken, free = other.getsockname()[1], free_port()
        new = f'bind = ["127.0.0.1:{free}", "127.0.0.1:{taken}", "203.0.113.1:1443", "127.0.0.1:'
        change(snigate, 'bind = ["127.0.0.1:', new)
        said = refused(snigate)
        assert f"cannot bind 127.0.0.1:{taken}: Address already in use" in said
        assert "cannot bind 203.0.113.1:1443" in said
        socket.create_server(("127.0.0.1", free)).close()


def test_sighup_reloads_and_says_what_is_wrong(tmp_path: Path) -> None:
    with Greeter("one") as one, Greeter("two") as two, ExitStack() as stack:
        snigate = stack.enter_context(Snigate(tmp_path, LISTENER % f"127.0.0.1:{one.port}"))
        assert snigate.process is not None
        good = snigate.file.read_text()
        snigate.file.write_text(f"{good}\n= broken")
        snigate.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "is not valid TOML" in snigate.log, "it is said")
        assert told(snigate) == "one"
        snigate.file.write_text(good.replace(str(one.port), str(two.port)))
        snigate.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told(snigate) == "two", "the new backend is asked")


def test_a_changed_route_takes_effect_when_the_command_has_returned(tmp_path: Path) -> None:
    with Greeter("one") as one, Greeter("two") as two, Greeter("other") as other:
        route = f'[[listeners.routes]]\nhosts = ["a.example"]\nbackend = "127.0.0.1:{one.port}"\n'
        with Snigate(tmp_path, LISTENER % f"127.0.0.1:{other.port}" + route) as snigate:
            assert (told(snigate, "a.example"), told(snigate, "b.example")) == ("one", "other")
            change(snigate, str(one.port), str(two.port))
            reloaded(snigate)
            for _ in range(8):
                assert (told(snigate, "a.example"), told(snigate, "b.example")) == ("two", "other")
            change(snigate, '"a.example"', '"b.example"')
            reloaded(snigate)
            for _ in range(8):
                assert (told(snigate, "a.example"), told(snigate, "b.example")) == ("other", "two")


def test_an_open_connection_goes_on_and_its_worker_ends_with_it(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, LISTENER % f"127.0.0.1:{backend.port}") as snigate:
        with connect(snigate.port) as tls:
            assert echoed(tls, b"before") == b"before"
            reloaded(snigate)
            wait_for(lambda: states(snigate) == [(1, "draining"), (2, "ready"), (2, "ready")], "one is left")
            assert snigate.metric("snigate_workers") == 2
            assert snigate.metric("snigate_connections_active") == 1
            assert echoed(tls, b"x" * 300_000) == b"x" * 300_000
            command = [str(PROGRAM), "status", "--config", str(snigate.file)]
            shown_by_command = subprocess.run(command, capture_output=True, text=True, timeout=30)
            assert "draining" in shown_by_command.stdout
            tls.unwrap()
        wait_for(lambda: states(snigate) == [(2, "ready"), (2, "ready")], "it has ended")
        assert snigate.metric("snigate_connections_total", outcome="served") >= 1


def test_a_replaced_generation_ends_after_its_time(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, LISTENER % f"127.0.0.1:{backend.port}") as snigate:
        change(snigate, "[server]", '[server]\nretire = "300ms"')
        with connect(snigate.port) as tls:
            assert echoed(tls, b"before") == b"before"
            reloaded(snigate)
            assert is_cut(tls)
        wait_for(lambda: states(snigate) == [(2, "ready"), (2, "ready")], "it has ended")


def test_200_reloads_lose_no_connection_and_mix_no_configurations(tmp_path: Path) -> None:
    """Two configurations differ in what a client is told by TLS (ALPN) and in where it is sent, on both routes."""
    words = ["a1", "a2", "b1", "b2"]
    with ExitStack() as stack:
        ports = {word: stack.enter_context(Greeter(word)).port for word in words}

        def configuration(side: str) -> str:
            routes = "".join(
                f'[[listeners.routes]]\nhosts = ["{number}.example"]\nbackend = "127.0.0.1:{ports[side + number]}"\n'
                for number in "12"
            )
            return WELCOME + f'alpn = ["{side}"]\n{routes}\n[log]\naccess = false\n'

        snigate = Snigate(tmp_path, configuration("a"))
        first = snigate.file.read_text()
        second = Snigate(tmp_path / "second", configuration("b")).file.read_text()
        texts = [first, first.replace(first.partition("\n[server]")[0], second.partition("\n[server]")[0])]
        texts[1] = texts[1].replace(texts[1].partition('bind = ["')[2].partition('"')[0], f"127.0.0.1:{snigate.port}")
        with snigate:
            assert snigate.process is not None
            with Visitors(snigate.port, ("1.example", "2.example"), ("a", "b"), rate=100) as visitors:
                for generation in range(2, RELOADS + 2):
                    fresh = tmp_path / "fresh.toml"
                    fresh.write_text(texts[(generation + 1) % 2])
                    fresh.rename(snigate.file)
                    snigate.process.send_signal(signal.SIGHUP)
                    wait_for(lambda now=generation: f"generation {now} serves" in snigate.log, "the next one serves")
            assert visitors.failures == []
            expected = {(f"{word[1]}.example", word[0], word) for word in words}
            assert set(visitors.told) == expected
            assert min(visitors.told.values()) > 10
            wait_for(lambda: {state for _, state in states(snigate)} == {"ready"}, "the old ones have ended")
            assert snigate.metric("snigate_config_reloads_total", result="applied") == RELOADS
            assert "error" not in snigate.log
            files = sorted(path.name for path in (snigate.state / "metrics").iterdir())
            assert len({name.rpartition("_")[2] for name in files}) < 12, "numbers are used again"
            assert len([name for name in files if name.startswith("gauge_livesum")]) == 2


def test_a_listener_comes_and_goes(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, WELCOME) as snigate:
        port = free_port()
        more = f'[[listeners]]\nname = "more"\nbind = ["127.0.0.1:{port}"]\nbackend = "127.0.0.1:{backend.port}"\n'
        with pytest.raises(ConnectionRefusedError):
            shown(port)
        change(snigate, "[server]", f"{more}[server]")
        reloaded(snigate)
        assert [one["name"] for one in snigate.api("/api/v1/status")["listeners"]] == ["web", "more"]
        with connect(port) as tls:
            assert echoed(tls, b"before") == b"before"
            change(snigate, more, "")
            reloaded(snigate)
            with pytest.raises(ConnectionRefusedError):
                shown(port)
            shown(snigate.port)
            assert echoed(tls, b"after") == b"after"
            tls.unwrap()
        socket.create_server(("127.0.0.1", port)).close()


def test_an_address_goes_from_one_listener_to_another_without_a_gap(tmp_path: Path) -> None:
    with Greeter("one") as one, Greeter("two") as two, ExitStack() as stack:
        snigate = stack.enter_context(Snigate(tmp_path, LISTENER % f"127.0.0.1:{one.port}"))
        with Visitors(snigate.port, ("a.example",)) as visitors:
            change(snigate, 'name = "web"', 'name = "new"')
            change(snigate, str(one.port), str(two.port))
            reloaded(snigate)
            visitors.more(10)
        assert visitors.failures == []
        assert {said for _, _, said in visitors.told} == {"one", "two"}


def test_an_address_becomes_all_addresses_and_back(tmp_path: Path) -> None:
    with Greeter("one") as one, Snigate(tmp_path, LISTENER % f"127.0.0.1:{one.port}") as snigate:
        narrow, wide = f'"127.0.0.1:{snigate.port}"', f'":{snigate.port}"'
        change(snigate, narrow, wide)
        reloaded(snigate)
        with connect(snigate.port, "a.example", host="::1") as tls:
            assert tls.recv(10) == b"one"
            assert tls.recv(10) == b""
            tls.unwrap()
        change(snigate, wide, narrow)
        reloaded(snigate)
        assert told(snigate) == "one"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("::1", snigate.port))


def test_workers_become_more_and_fewer_without_losing_a_connection(tmp_path: Path) -> None:
    with Greeter("one") as one, Snigate(tmp_path, LISTENER % f"127.0.0.1:{one.port}", workers=1) as snigate:
        with Visitors(snigate.port, ("a.example",)) as visitors:
            for before, after in ((1, 3), (3, 2), (2, 1), (1, 2)):
                change(snigate, f"workers = {before}\n", f"workers = {after}\n")
                reloaded(snigate)
                wait_for(lambda now=after: [one for _, one in states(snigate)] == ["ready"] * now, "so many workers")
                visitors.more(60)
        assert visitors.failures == []
        assert {said for _, _, said in visitors.told} == {"one"}
        snigate.expect_new_workers()


def test_of_a_killed_worker_only_its_own_connections_end_and_new_ones_are_served(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, LISTENER % f"127.0.0.1:{backend.port}") as snigate:
        reloaded(snigate)
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(snigate.port)) for _ in range(32)]
            for tls in clients:
                assert echoed(tls, b"before") == b"before"
            victim, other = snigate.workers()
            os.kill(victim.pid, signal.SIGKILL)
            for _ in range(20):
                with connect(snigate.port) as tls:
                    assert echoed(tls, b"new") == b"new"
            alive = [tls for tls in clients if answers(tls)]
            assert 0 < len(alive) < 32
            for tls in alive:
                tls.unwrap()
            wait_for(lambda: states(snigate) == [(2, "ready"), (2, "ready")], "it is replaced in its generation")
            assert other.pid in [one.pid for one in snigate.workers()]
        assert snigate.metric("snigate_worker_restarts_total") == 1
        snigate.expect_new_workers()


def is_cut(tls: ssl.SSLSocket) -> bool:
    """Wait for the end of a connection on which nothing more is said."""
    try:
        return tls.recv(1) == b""
    except ConnectionResetError:
        return True


def answers(tls: ssl.SSLSocket) -> bool:
    """Whether a connection still lives: one byte comes back."""
    try:
        tls.sendall(b"x")
        return tls.recv(1) == b"x"
    except OSError:
        return False


def test_a_killed_control_or_keeper_is_replaced_after_a_reload(tmp_path: Path) -> None:
    pair = self_signed("a.example")
    with EchoServer() as backend, Snigate(tmp_path, LISTENER % f"127.0.0.1:{backend.port}") as snigate:
        change(snigate, "trust = []", 'trust = []\nrescan = "61s"')
        reloaded(snigate)
        with connect(snigate.port) as tls:
            for role in ("control", "keeper"):
                victim = pid_of(snigate, role)
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda one=role, old=victim: pid_of(snigate, one) not in (0, old), "the next one is there")
            assert echoed(tls, b"on and on") == b"on and on"
            tls.unwrap()
        pair.write(snigate.certs)
        wait_for(lambda: shown(snigate.port, "a.example").fingerprint == pair.fingerprint, "it is served")
        reloaded(snigate)


def test_other_certificate_directories_are_served_once_the_command_has_returned(tmp_path: Path) -> None:
    old, new = self_signed("a.example"), self_signed("a.example")
    snigate = Snigate(tmp_path, WELCOME)
    old.write(snigate.certs)
    new.write(tmp_path / "more")
    with snigate:
        keeper = pid_of(snigate, "keeper")
        assert shown(snigate.port, "a.example").fingerprint == old.fingerprint
        change(snigate, str(snigate.certs), str(tmp_path / "more"))
        reloaded(snigate)
        for _ in range(8):
            assert shown(snigate.port, "a.example").fingerprint == new.fingerprint
        found = snigate.api("/api/v1/certificates")["certificates"]
        assert [one["fingerprint"] for one in found] == [new.fingerprint]
        wait_for(lambda: not Path(f"/proc/{keeper}").exists(), "the old keeper has ended")
        old.write(tmp_path / "more", "old")
        wait_for(lambda: len(snigate.api("/api/v1/certificates")["certificates"]) == 2, "the new one watches")
        sockets = [path.name for path in snigate.state.glob("keeper*.sock")]
        assert "keeper-2.sock" in sockets


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_of_a_replaced_generation_are_not_resumed(tmp_path: Path, version: ssl.TLSVersion) -> None:
    with EchoServer() as backend, Snigate(tmp_path, LISTENER % f"127.0.0.1:{backend.port}") as snigate:
        using = context(version=version)

        def visit(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
            with connect(snigate.port, "a.example", using=using, session=session) as tls:
                assert echoed(tls, b"x") == b"x"
                return bool(tls.session_reused), tls.session

        _, session = visit(None)
        assert visit(session)[0]
        reloaded(snigate)
        assert not any(visit(session)[0] for _ in range(8))
        _, session = visit(None)
        assert visit(session)[0]


def test_the_operators_addresses_and_the_log_change(tmp_path: Path) -> None:
    with Snigate(tmp_path, WELCOME) as snigate:
        before, metrics = snigate.admin, free_port()
        snigate.admin = free_port()
        new = f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n[log]\nformat = "json"\n'
        change(snigate, f'listen = "127.0.0.1:{before}"', f'listen = "127.0.0.1:{snigate.admin}"\n{new}')
        reloaded(snigate)
        assert snigate.get("/readyz", token=False)[0] == 200
        wait_for(lambda: not connects(before), "the old address is closed")
        assert connects(metrics)
        shown(snigate.port)
        wait_for(lambda: '"process.name": "supervisor"' in snigate.log, "the log is JSON")
        change(snigate, new, "")
        reloaded(snigate)
        wait_for(lambda: not connects(metrics), "there is no such address any more")


def connects(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_an_address_does_not_go_from_operator_to_clients_in_one_step(tmp_path: Path) -> None:
    with Snigate(tmp_path, WELCOME) as snigate:
        change(snigate, f":{snigate.admin}", ":0")
        change(snigate, f":{snigate.port}", f":{snigate.admin}")
        assert "take it away there, reload, and then give it a new use" in refused(snigate)


def test_readiness_never_fails_while_configurations_change(tmp_path: Path) -> None:
    with Snigate(tmp_path, WELCOME) as snigate:
        for number in range(5):
            with subprocess.Popen([PROGRAM, "reload", "--config", snigate.file], stdout=subprocess.PIPE) as reload:
                while reload.poll() is None:
                    assert snigate.get("/readyz", token=False) == (200, "ready\n")
            assert reload.returncode == 0
            change(snigate, f'drain = "{3 + number}s"', f'drain = "{4 + number}s"')


def test_sigterm_in_the_middle_ends_every_generation_with_status_0(tmp_path: Path) -> None:
    with EchoServer() as backend, Snigate(tmp_path, LISTENER % f"127.0.0.1:{backend.port}") as snigate:
        assert snigate.process is not None
        with connect(snigate.port) as first:
            assert echoed(first, b"before") == b"before"
            reloaded(snigate)
            with connect(snigate.port) as second:
                assert echoed(second, b"before") == b"before"
                change(snigate, 'drain = "3s"', 'drain = "1s"')
                snigate.process.send_signal(signal.SIGHUP)
                wait_for(lambda: snigate.log.count("a new generation of workers is made") == 2, "it has begun")
                snigate.process.send_signal(signal.SIGTERM)
                for tls in (first, second):  # a worker that had a day now has a few seconds
                    assert is_cut(tls)
        assert snigate.process.wait(20) == 0
        assert "stopped" in snigate.log


def ids(pid: int) -> tuple[set[str], set[str], list[str]]:
    """Real, effective, saved and file system user and group, and other groups, of a process."""
    found = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return set(found["Uid"].split()), set(found["Gid"].split()), found["Groups"].split()


def test_all_but_the_supervisor_are_another_user_and_all_goes_on_as_ever(public: Path) -> None:
    old, new = self_signed("a.example", not_after=3600), self_signed("a.example", not_after=7200)
    with EchoServer() as backend:
        snigate = Snigate(public, LISTENER % f"127.0.0.1:{backend.port}")
        change(snigate, "[server]", '[server]\nuser = "nobody"')
        old.write(snigate.certs, "old")
        for path in snigate.certs.iterdir():
            path.chmod(0o600)  # only the keeper can read them
        with snigate:
            nobody = ({"65534"}, {"65534"}, ["65534"])
            for generation in (1, 2):
                for one in snigate.api("/api/v1/status")["processes"]:
                    assert ids(one["pid"]) == nobody, (generation, one)
                change(snigate, f'drain = "{2 + generation}s"', f'drain = "{3 + generation}s"')
                reloaded(snigate)
            assert shown(snigate.port, "a.example").fingerprint == old.fingerprint
            new.write(snigate.certs, "new")
            wait_for(lambda: shown(snigate.port, "a.example").fingerprint == new.fingerprint, "it is swapped")
            for role in ("worker", "control", "keeper"):
                victim = next(one["pid"] for one in snigate.api("/api/v1/status")["processes"] if one["role"] == role)
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda gone=victim: not {0, gone} & set(pids(snigate)), "it is replaced")
            wait_for(lambda: len(snigate.api("/api/v1/status")["replicas"]) == 2, "all follow the keeper")
            assert snigate.metric("snigate_handshakes_total") > 0
            wait_for(lambda: snigate.metric("snigate_open_fds") > 0, "workers can look at themselves")
            command = [str(PROGRAM), "status", "--config", str(snigate.file)]
            assert subprocess.run(command, capture_output=True, timeout=30).returncode == 0
            snigate.expect_new_workers()


def test_a_state_directory_that_the_user_cannot_reach_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    snigate = Snigate(tmp_path, WELCOME)
    change(snigate, "[server]", '[server]\nuser = "nobody"')
    done = subprocess.run([PROGRAM, "serve", "--config", snigate.file], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "nobody cannot reach the state directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_user_is_named_at_start_and_by_check(tmp_path: Path) -> None:
    snigate = Snigate(tmp_path, WELCOME)
    change(snigate, "[server]", '[server]\nuser = "nobody-at-all"')
    for command in ("serve", "check"):
        done = subprocess.run([PROGRAM, command, "--config", snigate.file], capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert 'there is no user "nobody-at-all"' in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
