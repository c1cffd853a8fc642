"""The Containerfile: linted, and built and run as far as that goes without an engine."""

from __future__ import annotations

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

CONFIGURATION = """
[server]
state_directory = "/var/lib/snigate"
workers = 1
[certificates]
directories = ["/certs"]
trust = []
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
[[listeners]]
name = "web"
bind = ["127.0.0.1:{port}"]
protocol = "http"
backend = "welcome"
"""


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
    ports = {name: free_port() for name in ("port", "admin", "metrics")}
    etc, certificates = tmp_path / "etc", tmp_path / "certs"
    for made in (tmp_path, etc, certificates):
        made.mkdir(exist_ok=True)
        made.chmod(0o755)
    (etc / "snigate.toml").write_text(CONFIGURATION.format(**ports))
    pair = self_signed("www.example.com")
    pair.write(certificates, "www")
    for path in certificates.iterdir():
        path.chmod(0o644)
    mounts = {etc: "/etc/snigate", certificates: "/certs"}
    with image.run(image.stage.command, mounts, tmp_path / "log") as container:
        wait_for(lambda: listens(ports["port"]), "it accepts")
        assert shown(ports["port"], "www.example.com").fingerprint == pair.fingerprint
        wait_for(container.is_healthy, "its own check passes")
        status = Path(f"/proc/{container.pid}/status").read_text()
        assert "Uid:\t10001\t10001\t10001\t10001\n" in status
        assert "Gid:\t10001\t10001\t10001\t10001\n" in status
        assert "CapBnd:\t0000000000000000\n" in status
        assert "NoNewPrivs:\t1\n" in status
        assert "Read-only file system" in container.run(["touch", "/opt/snigate/x", "/tmp/x", "/x"]).stderr
        before = container.run(["snigate", "--version"])
        assert before.stdout.startswith("snigate "), before.stderr
        container.tell_to_stop()
        assert container.wait() == 0
    assert "stopped" in container.log
    assert "warning" not in container.log, container.log


def test_it_has_its_byte_code_and_only_what_it_runs_on(image: Image) -> None:
    found = image.shell("find /opt/snigate/lib -name '*.py*'").split()
    made = {path.replace("/__pycache__", "").split(".cpython-")[0] + ".py" for path in found if path.endswith(".pyc")}
    assert made == {path for path in found if path.endswith(".py")}
    packages = {Path(path).name for path in image.shell("ls -d /opt/snigate/lib/python3*/site-packages/*").split()}
    assert "admin" in packages
    assert not packages & {"pip", "pytest", "tests", "benchmarks"}
    assert image.shell("find /opt/snigate -not -user root -o -perm /022 -not -type l") == ""
