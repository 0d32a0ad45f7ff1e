"""Debian's Chromium under Playwright, which ships no browser that could be had everywhere."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Playwright

__all__ = ["find_chromium", "launch_browser"]

_FLAGS = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    # Nothing here needs more of the network than the test's own hub.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def launch_browser(playwright: Playwright) -> Browser:
    """Start Chromium without a window; close it."""
    return playwright.chromium.launch(executable_path=find_chromium(), headless=True, args=_FLAGS)
