"""A browser for the tests of the page, one for all of them, and a page that must stay clean."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from .browser import find_chromium, launch_browser
from .fake_hub import FakeHub

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without one the tests skip, and on CI that is a failure.

    A module keeps one: Playwright runs a loop in this thread while it lives, and coroutine
    tests of other modules could not.
    """
    if find_chromium() is None:
        if os.environ.get("CI"):
            pytest.fail("CI runs every test, and this one needs Chromium", pytrace=False)
        pytest.skip("there is no `chromium` here; the page was not tested in a browser")
    with sync_playwright() as playwright:
        browser = launch_browser(playwright)
        yield browser
        browser.close()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub that does what the test says."""
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return a function that opens a page in a context of its own.

    Whatever a page reports as an error or asks in a dialog fails the test in the end, apart
    from connections that the test itself cut.
    """
    contexts = []
    complaints: list[str] = []

    def complain(text: str) -> None:
        if "net::ERR" not in text:
            complaints.append(text)

    def open_one(url: str, **options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complain(f"error: {error}"))
        page.on("dialog", lambda dialog: (complain(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "console",
            lambda message: message.type in {"error", "warning"} and complain(message.text),
        )
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
