"""Makes the pictures of the page in ``docs/images/``.

Run it from the root of the repository, in the environment of the tests, with Chromium there::

    python -m docs.make_screenshots

The page is the real one in a real browser. The events are a made-up minute in the life of an
agent application, played by the hub that the page's tests use.
"""
# ruff: noqa: INP001 - docs is a folder of texts with scripts, not a package

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
from playwright.sync_api import Browser, Page, sync_playwright

from channels.event import Event
from channels.events import (
    ApprovalApproved,
    ApprovalDecisionData,
    ApprovalRequested,
    ApprovalRequestedData,
    CacheInvalidated,
    CacheInvalidatedData,
    JobCompleted,
    JobCompletedData,
    JobData,
    JobEnqueued,
    JobEnqueuedData,
    JobProgress,
    JobProgressData,
    JobRetrying,
    JobRetryingData,
    JobStarted,
    Message,
    NotificationCreated,
    NotificationCreatedData,
    RunEvent,
    SessionMessage,
    SessionMessageData,
    SessionUpdated,
    SessionUpdatedData,
    UsageRecorded,
    UsageRecordedData,
)
from tests.hub.dashboard.browser import launch_browser
from tests.hub.dashboard.fake_hub import FakeHub

_IMAGES = Path(__file__).parent / "images"
_SECONDS = 64
_TICK_S = 0.25
_W = "acme"

_TALK = [
    ("user", "Which of last week's leads should we write to first?"),
    ("assistant", "Looking at 312 leads. Twelve fit the profile of the Q3 campaign best."),
    ("tool", '{"matched": 12, "of": 312}'),
    ("assistant", "Drafting a first mail to Nordwind Logistics, in the tone of the foundation."),
    ("user", "Make it shorter, and mention the pilot in Hamburg."),
    ("assistant", "Done: 84 words, the pilot in the second sentence. Shall I send it?"),
]
_SENTENCE = "Nordwind runs forty vans out of Hamburg and plans its routes by hand"


class _Life:
    """What happens in the application, a quarter of a second at a time."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a made-up life, the same each time
        self._words = _SENTENCE.split()
        self._version = 10
        self._talk = 0
        self._done = 40
        self._job = 41

    def step(self, tick: int) -> Iterator[tuple[str, Event | dict[str, Any]]]:
        """Yield what is published in this quarter of a second."""
        yield from self._conversation(tick)
        yield from self._work(tick)
        yield from self._approvals(tick)

    def _conversation(self, tick: int) -> Iterator[tuple[str, Event]]:
        chance = self._random.random
        if tick % 11 == 3:
            yield f"session:{_W}:lead-review", self._message("lead-review")
        if tick % 37 == 20:
            yield f"session:{_W}:lead-review", self._update()
        if chance() < (0.5, 0.15, 0.7)[tick // 30 % 3]:
            yield f"run:{_W}:r-2081", self._delta()
        if chance() < 0.06:
            yield f"session:{_W}:support-118", self._message("support-118")

    def _work(self, tick: int) -> Iterator[tuple[str, Event | dict[str, Any]]]:
        chance = self._random.random
        if tick % 5 == 0:
            yield f"jobs:{_W}", self._progress()
        if tick % 24 in {8, 12, 19}:
            yield "queue:emails", self._email(tick % 24)
        if chance() < 0.12:
            yield "usage:ada", self._usage()
        if tick % 100 == 60:
            yield f"workspace:{_W}", _invalidated()
        if tick % 16 == 5:
            yield "metrics", {"cpu": round(20 + 30 * chance(), 1), "queue_depth": self._done % 9}

    def _approvals(self, tick: int) -> Iterator[tuple[str, Event]]:
        now = datetime.now(UTC)
        if tick == 140:
            yield (
                f"approvals:{_W}",
                _requested(
                    "g-17", "refund_order", "support-agent", {"order": 4411, "eur": 49}, now
                ),
            )
        if tick == 244:
            decision = ApprovalDecisionData(
                workspace=_W, gate="g-17", decision="d-9", actor="grace", comment="known customer"
            )
            yield f"approvals:{_W}", ApprovalApproved(data=decision)
        if tick == 248:
            args = {"to": "ops@nordwind.example", "subject": "Forty vans, one plan"}
            yield f"approvals:{_W}", _requested("g-18", "send_email", "outreach-agent", args, now)
            note = NotificationCreatedData(
                user="ada",
                notification="n-7",
                title="A mail waits for your word",
                body="outreach-agent wants to write to Nordwind Logistics",
                level="action",
            )
            yield "notifications:ada", NotificationCreated(data=note)

    def _message(self, session: str) -> Event:
        role, content = _TALK[self._talk % len(_TALK)]
        self._talk += 1
        self._version += 1
        message = Message(
            id=f"m{self._talk}", seq=self._talk, role=role, content=content, time=datetime.now(UTC)
        )
        data = SessionMessageData(
            workspace=_W, session=session, version=self._version, message=message
        )
        return SessionMessage(data=data)

    def _update(self) -> Event:
        self._version += 1
        patch = {"step": "drafting", "selected_leads": 12}
        data = SessionUpdatedData(
            workspace=_W, session="lead-review", version=self._version, patch=patch
        )
        return SessionUpdated(data=data)

    def _delta(self) -> Event:
        delta = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m6"}
        delta["delta"] = self._random.choice(self._words)
        return RunEvent(data=msgspec.Raw(msgspec.json.encode(delta)))

    def _progress(self) -> Event:
        self._done = (self._done + 4) % 312
        data = JobProgressData(
            queue="agent_tasks",
            workspace=_W,
            job="j-903",
            kind="score_leads",
            attempt=1,
            done=self._done,
            total=312,
            note="reading websites",
        )
        return JobProgress(data=data)

    def _email(self, moment: int) -> Event:
        if moment == 8:
            self._job += 1
        facts = {"queue": "emails", "workspace": _W, "job": f"e-{self._job}", "kind": "send_email"}
        if moment == 8:
            return JobEnqueued(data=JobEnqueuedData(**facts))
        if moment == 12:
            return JobStarted(data=JobData(**facts, attempt=1))
        if self._random.random() < 0.3:
            again = datetime.now(UTC) + timedelta(seconds=30)
            return JobRetrying(
                data=JobRetryingData(**facts, error="421 try again later", run_at=again, attempt=1)
            )
        return JobCompleted(data=JobCompletedData(**facts, result={"status": 250}, attempt=1))

    def _usage(self) -> Event:
        tokens = self._random.randint(900, 4200)
        data = UsageRecordedData(
            user="ada",
            workspace=_W,
            tokens_input=tokens,
            tokens_output=tokens // 7,
            cost_micro_usd=tokens * 4,
            agent="outreach-agent",
            model="large-2",
        )
        return UsageRecorded(data=data)


def _requested(gate: str, tool: str, who: str, args: dict[str, Any], now: datetime) -> Event:
    data = ApprovalRequestedData(
        workspace=_W,
        gate=gate,
        tool=tool,
        args=args,
        requested_by=who,
        reason="leaves the company",
        expires_at=now + timedelta(minutes=15),
    )
    return ApprovalRequested(data=data)


def _invalidated() -> Event:
    data = CacheInvalidatedData(workspace=_W, version=4, tags=["foundation"])
    return CacheInvalidated(data=data)


def main() -> None:
    """Play the minute before both pages, then take the pictures."""
    _IMAGES.mkdir(exist_ok=True)
    with FakeHub(report_s=1.0) as hub, sync_playwright() as playwright:
        hub.clients = 128
        hub.subscribers = {
            f"session:{_W}:lead-review": 6,
            f"run:{_W}:r-2081": 9,
            f"approvals:{_W}": 14,
            "usage:ada": 2,
        }
        browser = launch_browser(playwright)
        light = _open(browser, hub.url, "light")
        dark = _open(browser, hub.url, "dark")
        life = _Life()
        for tick in range(int(_SECONDS / _TICK_S)):
            hub.publish_many(list(life.step(tick)))
            time.sleep(_TICK_S)
        light.screenshot(path=_IMAGES / "dashboard.png")
        dark.screenshot(path=_IMAGES / "dashboard-dark.png")
        browser.close()


def _open(browser: Browser, url: str, scheme: Literal["light", "dark"]) -> Page:
    size = {"width": 1280, "height": 800}
    page = browser.new_context(color_scheme=scheme, viewport=size, locale="en-GB").new_page()
    page.goto(url)
    return page


if __name__ == "__main__":
    main()
