"""The deploy hook for certbot, run as certbot and as people run it, with a snigate that reads what it copies."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.pki import DAY, Pair, certbot_lineage, self_signed
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import shown

HOOK = Path(__file__).parents[2] / "deploy/certbot/snigate"
WELCOME = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'
NAME = "www.example.com"


def placed(directory: Path, to: Path) -> Path:
    """The hook, with another place to copy to, and a group that this machine has."""
    text = HOOK.read_text()
    for documented, other in (("to=/etc/snigate/certs\n", f"to={to}\n"), ("group=snigate\n", "group=daemon\n")):
        assert documented in text
        text = text.replace(documented, other)
    hook = directory / "hook"
    hook.write_text(text)
    hook.chmod(stat.S_IMODE(HOOK.stat().st_mode))
    return hook


def run(hook: Path, *arguments: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As certbot does, with little in its environment."""
    environment["PATH"] = "/usr/bin:/bin"
    command = [str(hook), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


def test_what_certbot_has_made_and_renewed_is_copied_and_served(tmp_path: Path) -> None:
    first, renewed = self_signed(NAME), self_signed(NAME, not_after=400 * DAY)
    etc = tmp_path / "letsencrypt"
    with Snigate(tmp_path / "snigate", WELCOME, workers=1) as snigate:
        hook = placed(tmp_path, snigate.certs)

        def is_served(pair: Pair) -> None:
            wait_for(lambda: shown(snigate.port, NAME).fingerprint == pair.fingerprint, "the lineage is served")

        lineage = certbot_lineage(etc, NAME, first)
        assert run(hook, *(etc / "live").iterdir()).returncode == 0
        is_served(first)
        certbot_lineage(etc, NAME, renewed, version=2)
        assert run(hook, RENEWED_LINEAGE=str(lineage)).returncode == 0
        is_served(renewed)
        made = {path.name: path for path in snigate.certs.iterdir()}
        assert set(made) == {f"{NAME}-fullchain.pem", f"{NAME}-privkey.pem"}
        for path in made.values():
            assert (stat.S_IMODE(path.stat().st_mode), path.owner(), path.group()) == (0o640, "root", "daemon")
        assert "error" not in snigate.log


@pytest.mark.parametrize("missing", ["fullchain.pem", "privkey.pem"])
def test_a_lineage_that_lacks_a_file_fails_and_leaves_that_file_as_it_was(tmp_path: Path, missing: str) -> None:
    to = tmp_path / "to"
    to.mkdir()
    hook = placed(tmp_path, to)
    lineage = certbot_lineage(tmp_path / "letsencrypt", NAME, self_signed(NAME))
    assert run(hook, lineage).returncode == 0
    before = (to / f"{NAME}-{missing}").read_bytes()
    (lineage / missing).unlink()
    done = run(hook, RENEWED_LINEAGE=str(lineage))
    assert done.returncode != 0
    assert missing in done.stderr
    assert (to / f"{NAME}-{missing}").read_bytes() == before


def test_without_a_lineage_it_says_what_it_lacks(tmp_path: Path) -> None:
    assert os.access(HOOK, os.X_OK)
    done = run(placed(tmp_path, tmp_path))
    assert done.returncode != 0
    assert "RENEWED_LINEAGE" in done.stderr
