"""The page in a real browser, in front of a hub that does what each test says."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from channels.event import encode_event
from channels.events import (
    ApprovalApproved,
    ApprovalDecisionData,
    ApprovalRequested,
    ApprovalRequestedData,
    JobProgress,
    JobProgressData,
)

from .fake_hub import FakeHub

OpenPage = Callable[..., Page]

_XSS = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "</pre></li><h1>owned</h1>",
    "{{constructor.constructor('alert(1)')()}}",
]


def _rows(page: Page) -> Locator:
    return page.locator("#events .row")


def _state(page: Page) -> Locator:
    return page.locator("#state")


def _follow(hub: FakeHub, page: Page, *channels: str) -> None:
    """Make the page know ``channels``, follow them, and start from an empty list."""
    hub.publish_many([(channel, {"made": "known"}) for channel in channels])
    hub.wait_followed(*channels)
    expect(_state(page)).to_have_attribute("data-state", "live")
    expect(_rows(page)).to_have_count(len(channels))
    page.click("#clear")


def _open(hub: FakeHub, open_page: OpenPage, *channels: str, **options: Any) -> Page:
    page = open_page(hub.url, **options)
    _follow(hub, page, *channels)
    return page


# -- what arrives ------------------------------------------------------------------------------


def test_an_empty_page_says_what_to_do_next(hub: FakeHub, open_page: OpenPage) -> None:
    """Before anything is published the page shows the command that publishes."""
    page = open_page(hub.url)
    expect(_state(page)).to_contain_text("Live")
    expect(page.locator("#empty-title")).to_have_text("Waiting for events")
    expect(page.locator("#command")).to_have_text("""fanwire publish chat '{"hello":"world"}'""")
    expect(page.locator("#nodes")).to_have_text("1")
    expect(page.locator("#clients")).to_have_text("3")
    expect(page.locator("#version")).to_have_text("v0.1.0")


def test_the_first_event_of_a_channel_is_there(hub: FakeHub, open_page: OpenPage) -> None:
    """A channel that nobody follows becomes known by an event, and that event is shown."""
    page = open_page(hub.url)
    expect(_state(page)).to_have_attribute("data-state", "live")
    hub.publish("chat", {"hello": "world"})
    expect(_rows(page)).to_have_count(1)
    expect(_rows(page).first).to_contain_text('{"hello": "world"}')
    expect(page.locator(".channel")).to_have_count(1)


def test_a_page_begins_with_the_recent_past(hub: FakeHub, open_page: OpenPage) -> None:
    """What happened before the page was opened is there: twenty events of each channel."""
    hub.publish_many([(f"c{n % 2}", {"n": n}) for n in range(60)])
    page = open_page(hub.url)
    expect(_rows(page)).to_have_count(40)
    expect(page.locator("#events .gap")).to_have_count(0)


def test_an_event_appears_with_its_channel_and_its_line(hub: FakeHub, open_page: OpenPage) -> None:
    """What is published is in the list: when, where, which type, and what it says."""
    page = _open(hub, open_page, "chat", "jobs:w1")
    hub.publish("chat", {"hello": "world"})
    expect(_rows(page)).to_have_count(1)
    expect(_rows(page).first).to_contain_text('{"hello": "world"}')
    facts = {"queue": "q", "workspace": "w1", "job": "j", "kind": "score"}
    hub.publish(
        "jobs:w1", encode_event(JobProgress(data=JobProgressData(**facts, done=25, total=100)))
    )
    expect(_rows(page)).to_have_count(2)
    newest = _rows(page).first
    expect(newest.locator(".type")).to_have_text("job.progress")
    expect(newest.locator(".channel-name")).to_have_text("jobs:w1")
    expect(newest.locator(".progress")).to_have_attribute("aria-label", "25 %")
    expect(page.locator("#empty")).to_be_hidden()


def test_a_row_opens_to_the_whole_event(hub: FakeHub, open_page: OpenPage) -> None:
    """A click, or Enter, shows the JSON with offset and epoch; another one hides it."""
    page = _open(hub, open_page, "chat")
    hub.publish("chat", {"order": 7, "nested": {"list": [True, None]}})
    row = _rows(page).first
    row.click()
    detail = page.locator(".detail")
    expect(detail).to_contain_text("offset2")
    expect(detail).to_contain_text("epoche1")
    expect(detail.locator("pre")).to_have_text(
        '{\n  "order": 7,\n  "nested": {\n    "list": [\n      true,\n      null\n    ]\n  }\n}',
        use_inner_text=True,
    )
    row.press("Enter")
    expect(detail).to_have_count(0)


def test_nothing_from_the_network_becomes_markup(hub: FakeHub, open_page: OpenPage) -> None:
    """Markup in channels, types, every field and every depth is shown as the text it is."""
    # Tighter than what the hub lets through: no channel may be called like this.
    channels = [f"x:{payload}" for payload in _XSS]
    page = _open(hub, open_page, *channels)
    for payload, channel in zip(_XSS, channels, strict=True):
        hub.publish(channel, payload)
        hub.publish(channel, {payload: payload, "type": payload, "data": {payload: [payload]}})
        message = {"role": payload, "content": payload}
        hub.publish(channel, {"type": "session.message", "data": {"message": message}})
        hub.publish(
            channel,
            {
                "type": "approval.requested",
                "data": {"gate": payload, "tool": payload, "requested_by": payload},
            },
        )
    hub.lose(channels[0])
    expect(_rows(page)).to_have_count(4 * len(_XSS))
    for row in _rows(page).all():
        row.click()
    expect(page.locator(".detail")).to_have_count(4 * len(_XSS))
    expect(page.locator(".detail pre").first).to_contain_text("constructor")
    page.locator(".channel").first.click()
    made = page.evaluate("document.querySelectorAll('main img, main script, main h1').length")
    assert made == 0
    assert page.evaluate("document.querySelectorAll('main svg').length") == len(_XSS)  # charts


# -- what a person does ------------------------------------------------------------------------


def test_a_selected_channel_filters_the_stream(hub: FakeHub, open_page: OpenPage) -> None:
    """A channel is chosen and left again by a click on it."""
    page = _open(hub, open_page, "a", "b")
    hub.publish_many([("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 3})])
    expect(_rows(page)).to_have_count(3)
    channel = page.locator('.channel[data-channel="a"]')
    channel.click()
    expect(_rows(page)).to_have_count(2)
    expect(channel).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#shown")).to_have_text("2 of 3")
    channel.click()
    expect(_rows(page)).to_have_count(3)


def test_words_filter_what_is_there_and_what_comes(hub: FakeHub, open_page: OpenPage) -> None:
    """The filter is reached with /, works on both, and is left with Escape."""
    page = _open(hub, open_page, "chat")
    hub.publish_many([("chat", {"word": "apple"}), ("chat", {"word": "pear"})])
    expect(_rows(page)).to_have_count(2)
    page.keyboard.press("/")
    page.keyboard.type("APPLE")
    expect(_rows(page)).to_have_count(1)
    hub.publish_many([("chat", {"word": "plum"}), ("chat", {"word": "apple pie"})])
    expect(_rows(page)).to_have_count(2)
    page.fill("#filter", "nothing like this")
    expect(page.locator("#empty-title")).to_have_text("No event matches")
    page.click("#reset")
    expect(_rows(page)).to_have_count(4)


def test_a_pause_holds_what_comes_and_counts_it(hub: FakeHub, open_page: OpenPage) -> None:
    """Nothing moves while paused; nothing is missing afterwards."""
    page = _open(hub, open_page, "chat")
    hub.publish("chat", {"n": 0})
    expect(_rows(page)).to_have_count(1)
    page.click("#pause")
    hub.publish_many([("chat", {"n": n}) for n in range(1, 8)])
    expect(page.locator("#held")).to_have_text("7")
    expect(_rows(page)).to_have_count(1)
    page.click("#pause")
    expect(_rows(page)).to_have_count(8)
    expect(_rows(page).first).to_contain_text('{"n": 7}')
    expect(page.locator("#held")).to_have_text("")


def test_a_pending_approval_stands_out_until_it_is_decided(
    hub: FakeHub, open_page: OpenPage
) -> None:
    """It is listed apart, marked in its row and counted in the title; then its row says who."""
    page = _open(hub, open_page, "approvals:w1")
    asked = ApprovalRequestedData(workspace="w1", gate="g1", tool="send_email", requested_by="bot")
    hub.publish("approvals:w1", encode_event(ApprovalRequested(data=asked)))
    panel = page.locator("#approvals")
    expect(panel).to_contain_text("send_email")
    expect(page).to_have_title("(1) Fanwire")
    row = page.locator("#events li").filter(has_text="send_email")
    expect(row).to_have_class(re.compile("waiting"))
    decided = ApprovalDecisionData(workspace="w1", gate="g1", decision="d1", actor="ada")
    hub.publish("approvals:w1", encode_event(ApprovalApproved(data=decided)))
    expect(row.locator(".badge")).to_have_text("approved by ada")
    expect(row).not_to_have_class(re.compile("waiting"))
    expect(panel).to_be_hidden()
    expect(page).to_have_title("Fanwire")


def test_nothing_moves_under_somebody_who_reads(hub: FakeHub, open_page: OpenPage) -> None:
    """Scrolled down, a row stays where it is while newer ones come; a button leads to them."""
    page = _open(hub, open_page, "chat")
    hub.publish_many([("chat", {"n": n}) for n in range(60)])
    expect(_rows(page)).to_have_count(60)
    page.evaluate("document.getElementById('events').scrollTop = 600")
    read = _rows(page).filter(has_text='{"n": 35}')
    before = read.bounding_box()
    hub.publish_many([("chat", {"n": n}) for n in range(60, 75)])
    expect(page.locator("#newer")).to_contain_text("15")
    after = read.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2
    page.click("#newer")
    expect(_rows(page).first).to_be_in_viewport()
    expect(page.locator("#newer")).to_be_hidden()


def test_the_keyboard_reaches_everything(hub: FakeHub, open_page: OpenPage) -> None:
    """Channels and events are walked with the arrow keys."""
    page = _open(hub, open_page, "a", "b")
    hub.publish_many([("a", {"n": 1}), ("b", {"n": 2})])
    expect(_rows(page)).to_have_count(2)
    _rows(page).first.focus()
    page.keyboard.press("ArrowDown")
    expect(_rows(page).nth(1)).to_be_focused()
    page.locator(".channel").first.focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.locator(".channel").nth(1)).to_have_attribute("aria-pressed", "true")


# -- when things go wrong ----------------------------------------------------------------------


def test_a_cut_connection_is_told_and_loses_nothing(hub: FakeHub, open_page: OpenPage) -> None:
    """What is published while the page is away is there when it is back, once."""
    page = _open(hub, open_page, "chat")
    hub.publish("chat", {"n": 0})
    expect(_rows(page)).to_have_count(1)
    hub.down("Redis is away")
    expect(_state(page)).to_have_attribute("data-state", "reconnecting")
    expect(_state(page)).to_contain_text("Redis is away")
    hub.publish_many([("chat", {"n": n}) for n in range(1, 6)])
    hub.up()
    expect(_state(page)).to_have_attribute("data-state", "live")
    expect(_rows(page)).to_have_count(6)
    lines = _rows(page).locator(".text").all_text_contents()
    assert lines == [f'{{"n": {n}}}' for n in range(5, -1, -1)]


def test_a_page_opened_too_early_recovers_by_itself(open_page: OpenPage) -> None:
    """A hub whose Redis is not up yet: the page waits, says so, and then works."""
    with FakeHub(up=False) as hub:
        page = open_page(hub.url)
        expect(_state(page)).to_have_attribute("data-state", "reconnecting")
        expect(page.locator("#empty-title")).to_have_text("Waiting for the hub")
        hub.up()
        expect(_state(page)).to_have_attribute("data-state", "live")
        _follow(hub, page, "chat")
        hub.publish("chat", {"hello": "world"})
        expect(_rows(page)).to_have_count(1)


def test_a_gap_is_told_where_it_is(hub: FakeHub, open_page: OpenPage) -> None:
    """Lost history is a row between the events around it, and a word in the header."""
    page = _open(hub, open_page, "chat")
    hub.publish("chat", {"n": 1})
    hub.lose("chat")
    hub.publish("chat", {"n": 2})
    expect(_rows(page)).to_have_count(2)
    items = page.locator("#events li")
    expect(items).to_have_count(3)
    expect(items.nth(1)).to_contain_text("Events on chat may be missing here")
    expect(_state(page)).to_have_attribute("data-state", "gap")
    expect(_state(page)).to_contain_text("Events on chat were missed")


def test_another_set_of_channels_loses_and_repeats_nothing(
    hub: FakeHub, open_page: OpenPage
) -> None:
    """While new channels join, every event of those followed before arrives once, in order."""
    page = _open(hub, open_page, "steady")
    done = threading.Event()

    def publish() -> None:
        for n in range(200):
            hub.publish("steady", {"n": n})
            if n % 20 == 0:
                hub.publish(f"new{n // 20}", {"n": n})
            time.sleep(0.005)  # spread over several reports, not a synchronisation
        done.set()

    thread = threading.Thread(target=publish)
    thread.start()
    hub.wait_followed("steady", *(f"new{n}" for n in range(10)))
    thread.join()
    assert done.is_set()
    page.locator('.channel[data-channel="steady"]').click()
    expect(_rows(page)).to_have_count(200)
    lines = _rows(page).locator(".text").all_text_contents()
    assert lines == [f'{{"n": {n}}}' for n in range(199, -1, -1)]
    expect(page.locator("#events .gap")).to_have_count(0)


def test_a_rush_is_sampled_and_the_page_stays_alive(hub: FakeHub, open_page: OpenPage) -> None:
    """At 2,000 events a second rows stay bounded, a click works, and a pause shows the last."""
    page = _open(hub, open_page, "rush")
    stop = threading.Event()
    many = threading.Event()
    sent = 0

    def publish() -> None:
        nonlocal sent
        began = time.monotonic()
        while not stop.wait(0.01):
            due = int((time.monotonic() - began) * 2000) - sent
            hub.publish_many([("rush", {"n": sent + n}) for n in range(due)])
            sent += due
            if sent > 2000:
                many.set()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        assert many.wait(20)
        expect(page.locator("#shown")).to_contain_text("shown", timeout=20_000)
        page.click("#pause", timeout=5_000)
        expect(page.locator("#pause-name")).to_have_text("Resume")
        expect(page.locator("#held")).not_to_have_text("")
    finally:
        stop.set()
        thread.join()
    assert _rows(page).count() == 500
    page.click("#pause")
    expect(_rows(page).first).to_contain_text(f'{{"n": {sent - 1}}}')
    numbers = [
        int(re.sub(r"\D", "", line)) for line in _rows(page).locator(".text").all_text_contents()
    ]
    assert numbers == list(range(sent - 1, sent - 501, -1))


# -- how it looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_scrolls_sideways(hub: FakeHub, open_page: OpenPage, width: int) -> None:
    """Long names, long words and an open row fit; the channels collapse on a phone."""
    long = "session:w1:" + "x" * 64
    page = _open(hub, open_page, long, viewport={"width": width, "height": 740})
    hub.publish(long, {"type": "t" * 200, "data": {"word": "w" * 2000}})
    hub.lose(long)
    expect(_rows(page)).to_have_count(1)
    _rows(page).first.click()
    expect(page.locator(".detail")).to_be_visible()
    overflow = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow == 0
    toggle = page.locator("#side-toggle")
    if width > 760:
        expect(toggle).to_be_hidden()
    else:
        expect(page.locator("#channels")).to_be_hidden()
        toggle.click()
        expect(page.locator("#channels")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(hub: FakeHub, open_page: OpenPage, scheme: str) -> None:
    """Every text has at least the contrast of 4.5 to 1 that WCAG asks for."""
    page = _open(hub, open_page, "approvals:w1", color_scheme=scheme)
    asked = ApprovalRequestedData(workspace="w1", gate="g1", tool="send_email", requested_by="bot")
    hub.publish("approvals:w1", encode_event(ApprovalRequested(data=asked)))
    hub.publish("approvals:w1", {"type": "job.failed", "data": {"kind": "k", "error": "e"}})
    hub.lose("approvals:w1")
    expect(page.locator("#events li")).to_have_count(3)
    _rows(page).first.click()
    page.emulate_media(reduced_motion="reduce", color_scheme=scheme)  # ends what is still fading
    weak = page.evaluate(_WEAK_CONTRASTS)
    assert weak == []


#: Returns the texts whose colour is too close to what is painted behind them.
_WEAK_CONTRASTS = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility()) continue;
    const [one, other] = [parse(getComputedStyle(node).color), behind(node)].map(light);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) weak.push(`${text.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return weak;
}"""
