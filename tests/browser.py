"""A real Chromium before the status page: Debian's own package, driven by playwright, nothing downloaded.

It runs as whoever runs the tests, root in a container among them, where its sandbox cannot: the pages it sees are ours.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator

from playwright.async_api import Browser, Page, async_playwright

# a small screen is a phone of the usual width; the other is what most laptops show
PHONE = {"width": 375, "height": 700}
LAPTOP = {"width": 1200, "height": 900}


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, until the block ends."""
    path = shutil.which("chromium")
    assert path is not None, "chromium is not installed; `make system` says how it is"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"], timeout=30_000
        )
        try:
            yield browser
        finally:
            await browser.close()


def complaints(page: Page) -> list[str]:
    """Everything the browser will say against a page: console errors and warnings, exceptions, what did not load."""
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"{request.url}: {request.failure}"))
    return said
