"""How sessions end by themselves: when, how often it is told, and what renews them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from channels.errors import BadRequest, NotFound, StoreUnavailable
from services.context import Context
from services.session_manager import MAX_AGE_S, SessionManager
from services.session_settings import DAY_MS
from services.store.port import Store
from services.store.script import Script, load_script

from .session_support import Hand, events_of, make_context, replay, stored, types_of


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


@pytest.fixture
def hand() -> Hand:
    """The hand of the clock."""
    return Hand()


@pytest.fixture
def context(store: Store, hand: Hand) -> Context:
    """The ground of the services."""
    return make_context(store, hand)


@pytest.fixture
def sessions(context: Context) -> SessionManager:
    """The sessions of workspace w1."""
    return SessionManager(context, "w1")


class Told:
    """Hears when a session expired."""

    def __init__(self):
        self.ended = asyncio.Event()

    def on_message(self, payload):
        """Take one message."""
        if b'"session.expired"' in payload:
            self.ended.set()

    def on_interrupted(self):
        """Nothing to do: the test would time out."""


def ends_in(hand: Hand, seconds: float) -> datetime:
    """Return the time ``seconds`` from now."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=hand.ms, seconds=seconds)


async def test_an_idle_session_ends_and_tells(sessions, context, hand):
    """To the millisecond; once; nothing is left, and its id is free."""
    await sessions.create_session("s1", "ada", idle_ttl_s=60)
    hand.move(59.999)
    await context.sweeper.sweep()
    assert await sessions.get_session("s1") is not None
    hand.move(0.001)
    assert await sessions.get_session("s1") is None
    await context.sweeper.sweep()
    await context.sweeper.sweep()
    _, expired = await events_of(context, "w1", "s1")
    assert expired["type"] == "session.expired"
    assert expired["data"] == {
        "workspace": "w1",
        "session": "s1",
        "version": 2,
        "reason": "idle",
    }
    assert await context.store.execute("KEYS", "fw:{w1}:wm*") == []
    assert await context.store.execute("EXISTS", context.keys.due("w1")) == 0
    assert (await sessions.create_session("s1", "bob")).version == 1


async def test_a_session_in_use_ends_at_its_longest_life(sessions, context, hand):
    """However often it is used or extended."""
    begun = await sessions.create_session("s1", "ada", idle_ttl_s=60, max_age_s=200)
    for _ in range(4):
        hand.move(45)
        await sessions.add_message("s1", "user", "x")
        await context.sweeper.sweep()
    assert await sessions.extend_session("s1", 10_000) == begun.ends_at == ends_in(hand, 20)
    assert await sessions.extend_session("s1", 10_000) == begun.ends_at
    hand.move(20)
    with pytest.raises(NotFound):
        await sessions.add_message("s1", "user", "x")
    await context.sweeper.sweep()
    events = await events_of(context, "w1", "s1")
    assert [event["type"] for event in events][-2:] == ["session.message", "session.expired"]
    assert events[-1]["data"]["reason"] == "absolute"


async def test_a_session_over_does_not_come_back(sessions, context, hand):
    """Before anybody swept: it is over for each method, and nothing renews it."""
    await sessions.create_session("s1", "ada", idle_ttl_s=60)
    hand.move(60)
    assert await sessions.get_session("s1") is None
    assert await sessions.get_session("s1", touch=True) is None
    assert await sessions.delete_session("s1") is False
    assert (await sessions.list_sessions()).items == []
    for call in (
        sessions.add_message("s1", "user", "x"),
        sessions.update_session("s1", current_agent="a"),
        sessions.extend_session("s1"),
    ):
        with pytest.raises(NotFound):
            await call
    assert await types_of(context, "w1", "s1") == ["created"]


async def test_a_new_session_waits_for_the_end_of_the_old(sessions, context, hand):
    """Whoever begins it first tells that the old one ended, also another user."""
    await sessions.create_session("s1", "ada", idle_ttl_s=60)
    hand.move(61)
    begun = await sessions.create_session("s1", "bob", idle_ttl_s=60)
    assert (begun.user_id, begun.version) == ("bob", 1)
    assert await types_of(context, "w1", "s1") == ["created", "expired", "created"]
    assert (await sessions.list_sessions(user_id="ada")).items == []
    hand.move(59)
    await context.sweeper.sweep()
    assert await sessions.get_session("s1") is not None
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")


async def test_every_change_renews_the_idle_time(sessions, context, hand):
    """The sweeper looks at the first deadline, and moves on."""
    await sessions.create_session("s1", "ada", idle_ttl_s=60)
    for change in (
        lambda: sessions.add_message("s1", "user", "x"),
        lambda: sessions.update_session("s1", current_agent="a"),
    ):
        hand.move(40)
        await change()
        await context.sweeper.sweep()
        assert (await sessions.get_session("s1")).expires_at == ends_in(hand, 60)
    hand.move(60)
    await context.sweeper.sweep()
    assert (await types_of(context, "w1", "s1"))[-1] == "expired"


async def test_an_extension_is_longer_than_what_was_left(sessions, context, hand):
    """It adds to the end, is told with the new one, and is not cut short by use."""
    await sessions.create_session("s1", "ada", idle_ttl_s=60)
    hand.move(50)
    assert await sessions.extend_session("s1", 100) == ends_in(hand, 110)
    event = (await events_of(context, "w1", "s1"))[-1]
    assert datetime.fromisoformat(event["data"]["expires_at"]) == ends_in(hand, 110)
    await sessions.add_message("s1", "user", "x")
    hand.move(20)
    await context.sweeper.sweep()
    assert (await sessions.get_session("s1")).expires_at == ends_in(hand, 90)
    hand.move(90)
    await context.sweeper.sweep()
    assert (await types_of(context, "w1", "s1"))[-1] == "expired"


async def test_extended_just_before_the_end(sessions, context, hand):
    """With the sweeper at work at the same moment, it lives or has ended: never both."""
    for number in range(40):
        id = f"s{number}"
        await sessions.create_session(id, "ada", idle_ttl_s=1)
    hand.move(0.999)
    late = [asyncio.create_task(sessions.extend_session(f"s{n}", 60)) for n in range(20)]
    await asyncio.gather(*late, context.sweeper.sweep())
    hand.move(0.001)
    later = [asyncio.create_task(sessions.extend_session(f"s{n}", 60)) for n in range(20, 40)]
    done = await asyncio.gather(*later, context.sweeper.sweep(), return_exceptions=True)
    assert all(isinstance(one, NotFound) for one in done[:20])
    await context.sweeper.sweep()
    for number in range(40):
        last = "extended" if number < 20 else "expired"
        assert await types_of(context, "w1", f"s{number}") == ["created", last]


async def test_reading_renews_only_where_it_is_asked_to(sessions, context, hand):
    """Told as an extension, and at most once in a sixtieth of the idle time."""
    await sessions.create_session("s1", "ada", idle_ttl_s=600)
    hand.move(300)
    assert (await sessions.get_session("s1")).expires_at == ends_in(hand, 300)
    touched = await sessions.get_session("s1", touch=True, user_id="ada")
    assert (touched.expires_at, touched.version) == (ends_in(hand, 600), 2)
    for _ in range(9):
        hand.move(1)
        assert (await sessions.get_session("s1", touch=True)).version == 2
    hand.move(1)
    assert (await sessions.get_session("s1", touch=True)).expires_at == ends_in(hand, 600)
    assert await types_of(context, "w1", "s1") == ["created", "extended", "extended"]
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")


async def test_many_sweepers_tell_one_end(sessions, store, context, hand):
    """Several nodes at once, and handlers called twice: one event a session."""
    ids = [f"s{number}" for number in range(30)]
    for id in ids:
        await sessions.create_session(id, "ada", idle_ttl_s=5)
    hand.move(5)
    nodes = [make_context(store, hand) for _ in range(4)]
    await asyncio.gather(
        *(node.sweeper.sweep() for node in nodes),
        *(SessionManager(node, "w1").expire(id) for node in nodes for id in ids),
    )
    for id in ids:
        assert await types_of(context, "w1", id) == ["created", "expired"]


async def test_a_sweeper_that_runs_ends_sessions_by_the_clock(tcp_store, store):
    """With the real clock, waited for by the event itself."""
    context = make_context(store)
    told = Told()
    channel = context.catalogue.find("session:w1:s1")
    await tcp_store.listen(context.keys.pubsub(channel), told)
    sweeping = asyncio.create_task(context.sweeper.run())
    try:
        begun = await SessionManager(context, "w1").create_session("s1", "ada", idle_ttl_s=1)
        async with asyncio.timeout(20):
            await told.ended.wait()
        event = (await events_of(context, "w1", "s1"))[-1]
        assert datetime.fromisoformat(event["time"]) >= begun.expires_at
    finally:
        sweeping.cancel()


async def test_the_keys_outlive_the_session_by_a_day(sessions, context, hand):
    """So that the end is told although nobody looked for hours; and are not left for ever."""
    await sessions.create_session("s1", "ada", idle_ttl_s=60, max_age_s=3_600)
    await sessions.add_message("s1", "user", "x")
    for key in (
        context.keys.session("w1", "s1"),
        context.keys.session_messages("w1", "s1"),
        context.keys.session_message_ids("w1", "s1"),
    ):
        left = await context.store.execute("PTTL", key)
        assert 3_600_000 + DAY_MS - 60_000 < left <= 3_600_000 + DAY_MS


async def test_somebody_will_look_before_a_session_begins(store, hand):
    """Whoever dies right after the script leaves a session that is ended all the same."""

    class Dying:
        def __getattr__(self, name):
            return getattr(store, name)

        async def run(self, script, *args, **options):
            reply = await store.run(script, *args, **options)
            if script.name == "session_create":
                raise StoreUnavailable("this process is no more")
            return reply

    with pytest.raises(StoreUnavailable):
        await SessionManager(make_context(Dying(), hand), "w1").create_session("s1", "ada")
    context = make_context(store, hand)
    hand.move(3_600)
    await context.sweeper.sweep()
    assert await types_of(context, "w1", "s1") == ["created", "expired"]


async def test_an_end_that_nobody_told_leaves_nothing_due(sessions, context, hand):
    """Where even the keys are gone, the sets let go of it; the user's in the end."""
    await sessions.create_session("s1", "ada", idle_ttl_s=60)
    await context.store.execute("DEL", context.keys.session("w1", "s1"))
    hand.move(60)
    await context.sweeper.sweep()
    assert await context.store.execute("EXISTS", context.keys.due("w1")) == 0
    assert await context.store.execute("EXISTS", context.keys.sessions("w1")) == 0
    left = await context.store.execute("PTTL", context.keys.sessions_of("w1", "ada"))
    assert MAX_AGE_S * 1000 < left <= MAX_AGE_S * 1000 + DAY_MS
    assert await types_of(context, "w1", "s1") == ["created"]


@pytest.mark.parametrize("seconds", [0, -1, 1.5, MAX_AGE_S + 1])
async def test_times_that_cannot_be(sessions, seconds):
    """Not in the past, not in another age, not between two seconds."""
    await sessions.create_session("s1", "ada")
    for call in (
        sessions.create_session("s2", "ada", idle_ttl_s=seconds),
        sessions.create_session("s2", "ada", max_age_s=seconds),
        sessions.extend_session("s1", seconds),
    ):
        with pytest.raises(BadRequest, match="seconds"):
            await call


async def test_the_script_writes_times_as_python_does(store):
    """Leap years, ends of months and years, every field: RFC 3339 with three decimals."""
    text = load_script("session_extend").text
    library = text[text.index("-- session: what") : text.index("-- Now and then forget")]
    script = Script(
        "times",
        f"{library}\nlocal out = {{}}\nfor at, ms in ipairs(ARGV) do"
        " out[at] = session_time(tonumber(ms)) end\nreturn out",
    )
    start = int(datetime(1970, 1, 1, tzinfo=UTC).timestamp()) * 1000
    step = 86_400_000 * 11 + 3_723_457
    times = [start + number * step for number in range(4_000)]
    times += [
        int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000 - before
        for year in (1972, 1999, 2000, 2024, 2026, 2100)
        for month, day in ((1, 1), (3, 1), (12, 31))
        for before in (0, 1)
    ]
    found = await store.run(script, [], times)
    for ms, text_ in zip([*times], found, strict=True):
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
        expected = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert text_.decode() == f'"{expected}"'
