"""What is in deploy/systemd, in the hands of a real systemd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.conftest import ROOT
from tests.support.container import Image
from tests.support.pki import self_signed
from tests.support.snigate import wait_for
from tests.support.systemd import Machine, booted

pytestmark = pytest.mark.timeout(400)  # the image is built once, for which packages are fetched

FILE = "/etc/snigate/snigate.toml"
CONFIGURATION = """
[server]
state_directory = "/var/lib/snigate"
workers = 2
drain = "5s"
[certificates]
directories = ["/etc/snigate/certs"]
trust = []
[[listeners]]
name = "web"
bind = [":443"]
protocol = "http"
backend = "welcome"
"""
VISIT = "curl -sk -m 60 -o /dev/null -w '%{http_code} ' https://127.0.0.1/"
SERVED = "200"


@pytest.fixture(scope="module")
def machine(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A systemd with snigate's files where docs/running.md says, and nothing started."""
    shipped = {
        "snigate.service": "/etc/systemd/system/snigate.service",
        "snigate.socket": "/etc/systemd/system/snigate.socket",
        "snigate.sysusers": "/etc/sysusers.d/snigate.conf",
        "snigate.tmpfiles": "/etc/tmpfiles.d/snigate.conf",
    }
    files = {path: (ROOT / "deploy/systemd" / name).read_text() for name, path in shipped.items()}
    files[FILE] = CONFIGURATION
    pair = self_signed("www.example.com")
    files |= {"/etc/www.crt": pair.fullchain_pem.decode(), "/etc/www.key": pair.key_pem.decode()}
    with booted(image, files, tmp_path_factory.mktemp("systemd")) as made:
        made.say("systemd-sysusers")
        made.say("systemd-tmpfiles", "--create", "snigate.conf")
        made.say("install", "-g", "snigate", "-m", "640", "/etc/www.crt", "/etc/www.key", "/etc/snigate/certs")
        made.say("runuser", "-u", "snigate", "--", "/opt/snigate/bin/snigate", "check", "--config", FILE)
        yield made


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The service, started, without its socket."""
    machine.say("systemctl", "start", "snigate")
    yield machine
    machine.say("systemctl", "stop", "snigate")


@pytest.fixture
def activated(machine: Machine) -> Iterator[Machine]:
    """The service, started, with its socket."""
    machine.say("systemctl", "start", "snigate.socket", "snigate")
    yield machine
    machine.say("systemctl", "stop", "snigate.socket", "snigate")


def wrong(machine: Machine) -> None:
    machine.say("sh", "-c", f"echo '[oops]' >> {FILE}")


def right(machine: Machine) -> None:
    machine.say("sh", "-c", f"sed -i '/oops/d' {FILE}")


def accepts(machine: Machine, generation: int = 1) -> bool:
    return machine.shown("snigate", "StatusText") == f"2 workers of generation {generation} accept"


def test_started_means_that_it_serves_as_its_user_with_one_capability(service: Machine) -> None:
    assert service.say("sh", "-c", VISIT) == SERVED
    wait_for(lambda: accepts(service), "the second worker accepts too")
    status = service.say("cat", f"/proc/{service.shown('snigate', 'MainPID')}/status")
    user = service.say("id", "-u", "snigate")
    bind_service = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE
    for line in (
        f"Uid:\t{user}\t{user}\t{user}\t{user}",
        *(f"{kind}:\t{bind_service}" for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb")),
        *("NoNewPrivs:\t1", "Seccomp:\t2"),
    ):
        assert line in status.splitlines()
    owner = service.say("stat", "-c", "%U:%G %a", "/var/lib/snigate")
    assert owner == "snigate:snigate 700"


def test_a_reload_is_one_for_systemd_too_and_a_wrong_one_fails_and_changes_nothing(service: Machine) -> None:
    service.say("systemctl", "reload", "snigate")
    wait_for(lambda: accepts(service, 2), "the new generation is told of")
    wrong(service)
    assert service.run("systemctl", "reload", "snigate").returncode != 0
    right(service)
    assert service.shown("snigate", "ActiveState") == "active"
    assert accepts(service, 2)


def test_what_was_killed_is_started_again(service: Machine) -> None:
    service.say("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "snigate")
    wait_for(lambda: service.shown("snigate", "NRestarts") == "1", "systemd has noticed")
    wait_for(lambda: accepts(service), "it accepts again")
    assert service.say("sh", "-c", VISIT) == SERVED


def test_a_restart_with_the_socket_refuses_nobody(activated: Machine) -> None:
    visits = activated.begin("sh", "-c", f"for number in $(seq 200); do {VISIT} || true; done")
    for _ in range(3):
        activated.say("systemctl", "restart", "snigate")
    said, _ = visits.communicate(timeout=60)
    assert said.split() == [SERVED] * 200


def test_who_comes_while_the_configuration_is_wrong_is_served_when_it_is_right(activated: Machine) -> None:
    wrong(activated)
    assert activated.run("systemctl", "restart", "snigate").returncode != 0
    visits = [activated.begin("sh", "-c", VISIT) for _ in range(10)]
    wait_for(lambda: int(activated.shown("snigate", "NRestarts")) >= 3, "it is tried again and again")
    right(activated)
    assert [visit.communicate(timeout=60)[0].strip() for visit in visits] == [SERVED] * 10
    assert activated.shown("snigate.socket", "Result") == "success"
