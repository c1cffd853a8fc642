"""What is in deploy/ is what the programs that read it take, and names what there is."""

from __future__ import annotations

import re
import stat
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.servers import needs

ROOT = Path(__file__).parents[2]
SERVICE, SOCKET, USERS, FILES = (
    ROOT / "deploy/systemd" / f"snigate.{kind}" for kind in ("service", "socket", "sysusers", "tmpfiles")
)
RULES = ROOT / "deploy/prometheus/snigate.rules.yml"
MOST_EXPOSED = 2.0  # of 10


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program in the place of snigate's, which is not installed here."""
    for unit in (SERVICE, SOCKET):
        text = unit.read_text()
        if unit == SERVICE:
            assert text.count("/opt/snigate/bin/snigate") == 2
        (tmp_path / unit.name).write_text(text.replace("/opt/snigate/bin/snigate", "/bin/true"))
    return tmp_path


def test_systemd_takes_the_units_as_they_are(units: Path) -> None:
    command = [needs("systemd-analyze"), "verify", "--man=no", str(units / SERVICE.name), str(units / SOCKET.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_can_do_little_but_its_work(units: Path) -> None:
    command = [needs("systemd-analyze"), "security", "--offline=true", "--no-pager", str(units / SERVICE.name)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    exposed = re.search(r"Overall exposure level for snigate.service: (\d+\.\d)", said)
    assert exposed is not None, said
    assert float(exposed[1]) < MOST_EXPOSED, said


def test_the_services_user_and_its_directories_are_made_once_and_no_one_else_may_look(tmp_path: Path) -> None:
    unit = ConfigParser(interpolation=None, strict=False)
    unit.read(SERVICE)
    service = unit["Service"]
    for kind, file in (("sysusers", USERS), ("tmpfiles", FILES)):
        made = tmp_path / f"etc/{kind}.d/snigate.conf"
        made.parent.mkdir(parents=True)
        made.write_text(file.read_text())
    for _ in range(2):
        for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
            whole = [needs(command[0]), f"--root={tmp_path}", *command[1:], "snigate.conf"]
            done = subprocess.run(whole, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
    (user,) = (tmp_path / "etc/passwd").read_text().splitlines()
    (group,) = (tmp_path / "etc/group").read_text().splitlines()
    assert (user.split(":")[0], group.split(":")[0]) == (service["User"], service["Group"])
    assert user.endswith(f":/var/lib/{service['StateDirectory']}:/usr/sbin/nologin")
    certificates = tmp_path / "etc" / service["ConfigurationDirectory"] / "certs"
    status = certificates.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, int(group.split(":")[2]), 0o750)
    status = (tmp_path / "var/lib" / service["StateDirectory"]).stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (int(user.split(":")[2]), 0o700)


def test_every_metric_that_alerts_ask_for_is_documented() -> None:
    documented = set(re.findall(r"^### `(snigate_[a-z_]+)", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    asked = set(re.findall(r"\bsnigate_[a-z_]+", RULES.read_text()))
    assert asked
    assert asked <= documented


def test_alerts_are_raised_when_they_should_be_and_not_otherwise(tmp_path: Path) -> None:
    promtool = needs("promtool")
    for command in (
        [promtool, "check", "rules", str(RULES)],
        [promtool, "test", "rules", str(tmp_path / "rules_test.yml")],
    ):
        text = (Path(__file__).parent / "rules_test.yml").read_text()
        (tmp_path / "rules_test.yml").write_text(text.replace("RULES", str(RULES)))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
