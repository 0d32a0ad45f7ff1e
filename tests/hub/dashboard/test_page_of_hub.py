"""The page in a real browser, in front of the real hub on a real Valkey."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from clients import Publisher
from tests.servers import ValkeyServer

OpenPage = Callable[..., Page]

_ROOT = Path(__file__).parents[3]
_PATIENCE_S = 20


class _Serving:
    """``fanwire serve`` as a process of its own; ``port`` 0 lets it choose."""

    def __init__(self, redis_url: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "hub.cli", "serve", "--insecure", "--port", str(port)]
        environment = {**os.environ, "FANWIRE_REDIS_URL": redis_url}
        self._process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        lines: Queue[str] = Queue()
        assert self._process.stdout is not None
        out = self._process.stdout
        self._reader = threading.Thread(target=lambda: lines.put(out.readline()))
        self._reader.start()
        found = re.search(r"http://\S+", lines.get(timeout=_PATIENCE_S))
        assert found, "the hub did not say where it is"
        self.url = found[0]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it at once (-9)."""
        self._process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """End it in order, and wait."""
        self._process.terminate()
        self._process.wait(_PATIENCE_S)
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def serve(valkey: ValkeyServer) -> Iterator[Callable[..., _Serving]]:
    """Return a function that starts a hub; each is ended in the end."""
    started: list[_Serving] = []

    def start(port: int = 0) -> _Serving:
        started.append(_Serving(valkey.url, port))
        return started[-1]

    yield start
    for serving in started:
        serving.close()


def _live(page: Page) -> None:
    expect(page.locator("#state")).to_have_attribute("data-state", "live", timeout=20_000)


def _lines(page: Page) -> list[str]:
    return page.locator("#events .row .text").all_text_contents()


def test_a_first_event_appears_on_an_open_page(
    serve: Callable[..., _Serving], open_page: OpenPage
) -> None:
    """Publish one event on a channel that nobody knows: it arrives in the browser."""
    hub = serve()
    page = open_page(hub.url)
    _live(page)
    expect(page.locator("#nodes")).to_have_text("1")
    with Publisher(hub.url) as publisher:
        publisher.publish("chat", {"hello": "world"})
    row = page.locator("#events .row")
    expect(row).to_have_count(1, timeout=10_000)
    expect(row).to_contain_text('{"hello": "world"}')
    row.click()
    expect(page.locator(".detail")).to_contain_text("offset1")
    expect(page.locator(".detail dt").filter(has_text="epoch")).to_have_count(1)


def test_a_page_that_comes_later_sees_what_was_published(
    serve: Callable[..., _Serving], open_page: OpenPage
) -> None:
    """Events published before any page was open are there when one is."""
    hub = serve()
    with Publisher(hub.url) as publisher:
        for n in range(3):
            publisher.publish("chat", {"n": n})
    page = open_page(hub.url)
    expect(page.locator("#events .row")).to_have_count(3, timeout=10_000)
    assert _lines(page) == ['{"n": 2}', '{"n": 1}', '{"n": 0}']


def test_a_killed_hub_that_comes_back_loses_nothing(
    serve: Callable[..., _Serving], open_page: OpenPage
) -> None:
    """The page says that it reconnects, and shows every event once when the hub is back."""
    hub = serve()
    page = open_page(hub.url)
    _live(page)
    with Publisher(hub.url) as publisher:
        publisher.publish("chat", {"n": 0})
    expect(page.locator("#events .row")).to_have_count(1, timeout=10_000)
    hub.kill()
    expect(page.locator("#state")).to_have_attribute("data-state", "reconnecting")
    again = serve(hub.port)
    with Publisher(again.url) as publisher:
        for n in range(1, 6):
            publisher.publish("chat", {"n": n})
    _live(page)
    expect(page.locator("#events .row")).to_have_count(6, timeout=20_000)
    assert _lines(page) == [f'{{"n": {n}}}' for n in range(5, -1, -1)]


def test_markup_in_events_stays_text_under_the_hubs_policy(
    serve: Callable[..., _Serving], open_page: OpenPage
) -> None:
    """What looks like a script is shown, with the headers that the hub really sends."""
    hub = serve()
    page = open_page(hub.url)
    _live(page)
    nasty: dict[str, Any] = {"<img src=x onerror=alert(1)>": ["</pre><script>alert(1)</script>"]}
    with Publisher(hub.url) as publisher:
        publisher.publish("chat", nasty)
    row = page.locator("#events .row")
    expect(row).to_have_count(1, timeout=10_000)
    row.click()
    expect(page.locator(".detail pre")).to_contain_text("</pre><script>alert(1)</script>")
    assert page.locator("main img, main script").count() == 0
