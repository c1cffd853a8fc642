"""The Containerfile: linted, and built and run as far as that goes without an engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.conftest import CONTAINERFILE, ROOT
from tests.support.container import Image
from tests.support.containerfile import read
from tests.support.pki import self_signed
from tests.support.ports import free_port
from tests.support.servers import listens
from tests.support.snigate import wait_for
from tests.support.tls_client import shown

pytestmark = pytest.mark.timeout(400)  # the image is built once, for which packages are fetched

EXAMPLE: str = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)[0]


def configuration(ports: dict[str, int]) -> str:
    """The documented one, with this machine's free ports, and a backend that is there."""
    text = EXAMPLE
    for documented, other in (
        ('":8443"', f'"127.0.0.1:{ports["public"]}"'),
        ('":9181"', f'"127.0.0.1:{ports["metrics"]}"'),
        ('"app:8080"', '"welcome"'),
    ):
        assert documented in text
        text = text.replace(documented, other)
    return text + f'\n[admin]\nlisten = "127.0.0.1:{ports["admin"]}"\n'


def test_a_linter_has_nothing_against_it() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, CONTAINERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_says_of_itself_is_what_the_package_says() -> None:
    labels = read(CONTAINERFILE, {"PATH": ""})[-1].labels
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert said == {
        "title": project["name"],
        **{key: project[key] for key in ("description", "version")},
        "licenses": project["license"],
    }


def test_it_serves_as_nobody_in_particular_from_files_that_nothing_can_write_to(image: Image, tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("public", "admin", "metrics")}
    etc, certificates = tmp_path / "etc", tmp_path / "etc/certs"
    certificates.mkdir(parents=True)
    (etc / "snigate.toml").write_text(configuration(ports))
    pair = self_signed("www.example.com")
    pair.write(certificates, "www")
    for path in certificates.iterdir():
        os.chown(path, 0, int(image.stage.user.split(":")[1]))
        path.chmod(0o640)
    with image.run(image.stage.command, {etc: "/etc/snigate"}, tmp_path / "log") as container:
        wait_for(lambda: listens(ports["public"]), "it accepts")
        assert shown(ports["public"], "www.example.com").fingerprint == pair.fingerprint
        wait_for(container.is_healthy, "its own check passes")
        status = Path(f"/proc/{container.pid}/status").read_text()
        for line in (
            *("Uid:\t10001\t10001\t10001\t10001", "Gid:\t10001\t10001\t10001\t10001"),
            *("CapBnd:\t0000000000000000", "NoNewPrivs:\t1"),
        ):
            assert line in status.splitlines()
        assert container.run(["touch", "/opt/snigate/x", "/tmp/x", "/x"]).stderr.count("Read-only file system") == 3
        reloaded = container.run(["snigate", "reload"])
        assert reloaded.returncode == 0, reloaded.stderr
        container.tell_to_stop()
        assert container.wait() == 0
    assert "supervisor: stopped" in container.log
    assert "error" not in container.log


def test_its_own_check_fails_where_nothing_is_served(image: Image, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "snigate.toml").write_text(configuration({name: free_port() for name in ("public", "admin", "metrics")}))
    asking = [*image.stage.health[1:]]
    with image.run(asking, {etc: "/etc/snigate"}, tmp_path / "log") as container:
        assert container.wait() == 1
    assert "snigate is not running" in container.log


def test_it_has_its_byte_code_and_only_what_it_runs_on(image: Image) -> None:
    found = image.shell("find /opt/snigate/lib -name '*.py*'").split()
    made = {path.replace("/__pycache__", "").split(".cpython-")[0] + ".py" for path in found if path.endswith(".pyc")}
    assert made == {path for path in found if path.endswith(".py")}
    packages = {Path(path).name for path in image.shell("ls -d /opt/snigate/lib/python3*/site-packages/*").split()}
    assert "admin" in packages
    assert not packages & {"pip", "pytest", "tests", "benchmarks"}
    assert image.shell("find /opt/snigate -not -user root -o -perm /022 -not -type l") == ""
