"""A real browser, with a fresh profile."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from playwright.async_api import Browser, async_playwright

from tests.support.requirements import require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def real_browser(*flags: str) -> AsyncIterator[Browser]:
    """Start Debian's Chromium, with further flags; skips the test where there is none."""
    require(os.access(CHROMIUM, os.X_OK), "a browser: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            await browser.close()
