"""A wall clock for another process that jumps when the test says so (libfaketime); monotonic clocks stay right."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.support.servers import needs


class FakeClock:
    """Right at first. `environment` is for the process that is to have it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self._offset = 0
        self.jump(0)
        library = subprocess.run(
            [needs("faketime"), "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, check=True
        )
        self.environment = {
            "LD_PRELOAD": library.stdout.decode().strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # second after which it looks at the file again
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, offset: int) -> None:
        """Be so many seconds ahead of the time, within a second."""
        aside = self._file.with_suffix(".aside")
        aside.write_text(f"{offset:+d}")
        aside.replace(self._file)
        self._offset = offset

    def time(self) -> float:
        """Unix seconds there."""
        return time.time() + self._offset
