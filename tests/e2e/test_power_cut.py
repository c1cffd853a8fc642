"""Whoever imports certificates is killed at random moments: nothing is ever half-written, and no pair is broken."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from admin.reading import read
from certstore.load import parse_file
from config.load import load
from tests.support.pki import Authority

IMPORTER = """
import sys, time
from pathlib import Path
from admin.audit import Actor
from admin.known import known_by
from admin.management import Management
from admin.reading import read
from config.load import load

config = load(Path(sys.argv[1]))
management = Management(config, lambda: known_by(read(config)))
files = sorted(Path(sys.argv[2]).iterdir())
while True:
    for file in files:
        print(file.name, flush=True)
        management.import_(Actor("test", "test"), [(file.name, file.read_bytes())])
"""
IMPORTS = 200


def test_200_imports_that_are_cut_off_leave_whole_pairs_alone(tmp_path: Path) -> None:
    chance = random.Random(2026)
    root = Authority.make()
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "snigate.toml").write_text(
        '[certificates]\ntrust = ["root.pem"]\n[[listeners]]\nname = "w"\nbind = [":1"]\nbackend = "welcome"\n'
    )
    (tmp_path / "new").mkdir()
    pairs = {}
    for number in range(8):
        pair = root.issue(f"host{number % 4}.example.com")
        pairs[pair.fingerprint] = pair
        (tmp_path / "new" / f"{number}.pem").write_bytes(pair.combined_pem)
    begun = 0
    while begun < IMPORTS:
        begun += imports_until_killed(tmp_path, chance)
        reading = read(load(tmp_path / "snigate.toml"))
        assert reading.problems == ()
        assert reading.snapshot.waiting == frozenset()
        for one in reading.index:
            assert one.key == pairs[one.fingerprint].key_der
        for file in (tmp_path / "snigate-data" / "certs").iterdir():
            if not file.name.startswith("."):
                content = parse_file(file.read_bytes())
                assert content.certificates[0].spki == content.keys[0].spki
    assert len(reading.index) > 0


def imports_until_killed(directory: Path, chance: random.Random) -> int:
    """How many were begun."""
    command = [sys.executable, "-c", IMPORTER, str(directory / "snigate.toml"), str(directory / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        begun = len(os.read(process.stdout.fileno(), 1 << 16).splitlines())
        deadline = time.monotonic() + chance.uniform(0.0, 0.4)
        while time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        return begun + len(process.stdout.read().splitlines())
