"""A headless Chromium from Debian, driven by Playwright."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.servers import needs


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """One browser until the block's end."""
    program = needs("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


class Visitor:
    """One person's tab. `complaints` are what the browser's console says: of scripts, policies and failed loads."""

    def __init__(self, running: Browser, **options: Any) -> None:
        self.context: BrowserContext = running.new_context(**options)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def close(self) -> None:
        """Close it."""
        self.context.close()
