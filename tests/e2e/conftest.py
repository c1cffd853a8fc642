"""What several end-to-end tests are given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can reach, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="snigate-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)
