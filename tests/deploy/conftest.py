from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.container import Image, built

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy/container/Containerfile"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image that the Containerfile makes."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    in_context = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    with built(CONTAINERFILE, ROOT, in_context, tmp_path_factory.mktemp("layers")) as done:
        yield done
