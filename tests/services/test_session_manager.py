"""Sessions through their public interface: what is kept, what is refused, what is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from channels.errors import (
    BadRequest,
    Conflict,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    SettingsError,
    StoreRefused,
    VersionConflict,
)
from services.context import Context
from services.door import Services
from services.session_manager import SessionManager
from services.session_settings import TAKEN, SessionSettings, Trimmed
from services.store.port import Store
from services.store.tcp import TcpStore
from services.working_memory import WorkingMemoryState

from .session_support import (
    NOON_MS,
    Hand,
    events_of,
    make_context,
    replay,
    snapshot,
    stored,
    types_of,
)

NOON = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


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


async def test_a_session_begins_empty_and_is_found(sessions, context):
    """What create returns is what get returns, and the channel tells of it."""
    begun = await sessions.create_session("s1", "ada")
    assert begun == await sessions.get_session("s1")
    assert (begun.session_id, begun.workspace_id, begun.user_id) == ("s1", "w1", "ada")
    assert (begun.version, begun.message_count, begun.recent_messages) == (1, 0, [])
    assert begun.created_at == NOON
    assert begun.expires_at == NOON + timedelta(hours=1)
    assert begun.ends_at == NOON + timedelta(days=1)
    (event,) = await events_of(context, "w1", "s1")
    assert event["type"] == "session.created"
    assert event["data"]["user"] == "ada"
    assert event["data"]["state"] == await stored(context, "w1", "s1")


async def test_the_door_has_sessions(valkey):
    """An application reaches them by its workspace, and their snapshots by their channel."""
    async with Services.connect(valkey.url) as services:
        await services.for_workspace("w1").sessions.create_session("s1", "ada")
        assert (await stored(services.context, "w1", "s1"))["user_id"] == "ada"


async def test_create_returns_the_session_that_is_there(sessions, context):
    """It is never begun anew over a live one, whatever the values given."""
    await sessions.create_session("s1", "ada", fields={"current_agent": "planner"})
    await sessions.add_message("s1", "user", "hello")
    again = await sessions.create_session("s1", "ada", fields={"current_agent": "other"})
    assert again == await sessions.get_session("s1")
    assert (again.current_agent, again.message_count, again.version) == ("planner", 1, 2)
    assert await types_of(context, "w1", "s1") == ["created", "message"]


async def test_another_users_session_is_out_of_reach(sessions, context):
    """By id, for each method; nothing changes and nothing of it is told."""
    await sessions.create_session("s1", "ada")
    calls = [
        sessions.create_session("s1", "bob"),
        sessions.get_session("s1", user_id="bob"),
        sessions.get_session("s1", user_id="bob", touch=True),
        sessions.update_session("s1", user_id="bob", current_agent="x"),
        sessions.update_session("s1", user_id="bob"),
        sessions.add_message("s1", "user", "x", user_id="bob"),
        sessions.extend_session("s1", user_id="bob"),
        sessions.delete_session("s1", user_id="bob"),
    ]
    for call in calls:
        with pytest.raises(PermissionDenied, match="s1"):
            await call
    assert await types_of(context, "w1", "s1") == ["created"]
    assert (await sessions.list_sessions(user_id="bob")).items == []


async def test_another_workspaces_session_does_not_exist(sessions, context):
    """The same id in another workspace is another session."""
    await sessions.create_session("s1", "ada")
    other = SessionManager(context, "w2")
    assert await other.get_session("s1") is None
    assert await other.delete_session("s1") is False
    assert (await other.list_sessions()).items == []
    for call in (
        other.update_session("s1", current_agent="x"),
        other.add_message("s1", "user", "x"),
        other.extend_session("s1"),
    ):
        with pytest.raises(NotFound, match="s1"):
            await call
    assert await stored(context, "w2", "s1") is None
    await other.create_session("s1", "bob")
    await other.delete_session("s1")
    assert (await sessions.get_session("s1")).user_id == "ada"


@pytest.mark.parametrize(
    "id", ["", "a:b", "a}b", "{w2}:wm:s1", "s1:messages", "a b", "é", "x" * 65]
)
async def test_what_is_no_id_is_refused(sessions, context, id):
    """Separators cannot lead to another key, wherever an id is taken."""
    await sessions.create_session("s1", "ada")
    calls = [
        sessions.create_session(id, "ada"),
        sessions.create_session("s1", id),
        sessions.get_session(id),
        sessions.get_session("s1", user_id=id),
        sessions.update_session(id, current_agent="x"),
        sessions.update_session("s1", user_id=id, current_agent="x"),
        sessions.update_session("s1", op_id=id, current_agent="x"),
        sessions.add_message(id, "user", "x"),
        sessions.add_message("s1", "user", "x", message_id=id),
        sessions.add_message("s1", "user", "x", user_id=id),
        sessions.list_sessions(user_id=id),
        sessions.extend_session(id),
        sessions.extend_session("s1", op_id=id),
        sessions.delete_session(id),
        sessions.delete_session("s1", user_id=id),
        sessions.snapshot(id),
    ]
    for call in calls:
        with pytest.raises(BadRequest):
            await call
    with pytest.raises(BadRequest):
        SessionManager(context, id)
    assert await types_of(context, "w1", "s1") == ["created"]


async def test_an_update_replaces_what_it_names_and_nothing_else(sessions, context):
    """None clears, UNSET leaves; the event tells the version and the patch."""
    await sessions.create_session(
        "s1", "ada", fields={"current_agent": "a", "last_output": {"old": 1, "deep": {"x": 1}}}
    )
    state = await sessions.update_session(
        "s1",
        current_agent=None,
        current_task=msgspec.UNSET,
        last_output={"deep": {"y": None}},
        active_icps=[{"name": "smb"}],
    )
    assert state == await sessions.get_session("s1")
    assert (state.current_agent, state.current_task) == (None, None)
    assert state.last_output == {"deep": {"y": None}}
    assert state.active_icps == [{"name": "smb"}]
    event = (await events_of(context, "w1", "s1"))[-1]
    assert (event["type"], event["data"]["version"]) == ("session.updated", 2)
    assert event["data"]["patch"] == {
        "current_agent": None,
        "last_output": {"deep": {"y": None}},
        "active_icps": [{"name": "smb"}],
    }
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")
    cleared = await sessions.update_session("s1", active_icps=None)
    assert cleared.active_icps == []


@pytest.mark.parametrize(
    "updates",
    [
        {"workspace_id": "w2"},
        {"version": 9},
        {"recent_messages": []},
        {"pending_approvals": []},
        {"extra": {}},
        {"anything": 1},
        {"current_agent": 1},
        {"current_agent": "a", "last_output": "text"},
        {"active_icps": [1]},
        {"last_output": {"x": object()}},
        {"last_output": {"x": "\ud800"}},
    ],
)
async def test_only_declared_values_of_their_type_can_be_written(sessions, context, updates):
    """Identity cannot be changed, and one wrong value refuses the whole patch."""
    before = await sessions.create_session("s1", "ada")
    with pytest.raises(BadRequest):
        await sessions.update_session("s1", **updates)
    with pytest.raises(BadRequest):
        await sessions.create_session("s2", "ada", fields=updates)
    assert await sessions.get_session("s1") == before
    assert await sessions.get_session("s2") is None
    assert await types_of(context, "w1", "s1") == ["created"]


async def test_what_is_too_large_is_refused(sessions):
    """An event holds 64 KiB, so a value or a message must be smaller."""
    await sessions.create_session("s1", "ada")
    with pytest.raises(LimitExceeded):
        await sessions.add_message("s1", "user", "x" * 66_000)
    with pytest.raises(LimitExceeded):
        await sessions.update_session("s1", foundation_summary="x" * 66_000)
    deep: object = "x"
    for _ in range(120):
        deep = [deep]
    with pytest.raises(BadRequest, match="deep"):
        await sessions.add_message("s1", "user", deep)
    assert (await sessions.get_session("s1")).version == 1


async def test_an_expected_version_is_compared(sessions, context):
    """A conflict names where the session is, and changes nothing."""
    await sessions.create_session("s1", "ada")
    await sessions.update_session("s1", expected_version=1, current_agent="a")
    with pytest.raises(VersionConflict, match=r"version 2; expected 1") as caught:
        await sessions.update_session("s1", expected_version=1, current_agent="b")
    assert caught.value.current == 2
    with pytest.raises(VersionConflict):
        await sessions.update_session("s1", expected_version=1)
    assert (await sessions.get_session("s1")).current_agent == "a"
    assert await types_of(context, "w1", "s1") == ["created", "updated"]


async def test_an_operation_that_comes_again_is_done_once(sessions, context):
    """Also after others wrote the same value, and although the version moved on."""
    await sessions.create_session("s1", "ada")
    await sessions.update_session("s1", op_id="o1", expected_version=1, current_agent="a")
    await sessions.update_session("s1", current_agent="b")
    again = await sessions.update_session("s1", op_id="o1", expected_version=1, current_agent="a")
    assert (again.current_agent, again.version) == ("b", 3)
    first = await sessions.extend_session("s1", 60, op_id="o2")
    assert await sessions.extend_session("s1", 60, op_id="o2") == first
    assert await types_of(context, "w1", "s1") == ["created", "updated", "updated", "extended"]


async def test_an_update_of_nothing_is_no_change(sessions, context):
    """It returns the session, or says that there is none."""
    begun = await sessions.create_session("s1", "ada")
    assert await sessions.update_session("s1") == begun
    with pytest.raises(NotFound):
        await sessions.update_session("s2")
    assert await types_of(context, "w1", "s1") == ["created"]


async def test_messages_are_numbered_and_told(sessions, context, hand):
    """Content is any JSON; each has an id, a number, a time, and an event."""
    await sessions.create_session("s1", "ada")
    contents = [
        "text",
        None,
        [1, {"a": None}],
        {"seq": 9, "time": "x"},
        1.5,
        '"},"id":"x"',
        "\u2028\n",
    ]
    for number, content in enumerate(contents, 1):
        hand.move(1)
        message = await sessions.add_message("s1", "user", content, message_id=f"m{number}")
        assert (message.id, message.seq, message.content) == (f"m{number}", number, content)
        assert message.time == NOON + timedelta(seconds=number)
    state = await sessions.get_session("s1")
    assert [message.content for message in state.recent_messages] == contents
    assert state.message_count == len(contents)
    events = (await events_of(context, "w1", "s1"))[1:]
    assert [event["data"]["message"]["content"] for event in events] == contents
    assert [event["data"]["version"] for event in events] == list(range(2, 9))
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")


async def test_the_event_of_a_message_is_what_its_class_encodes(sessions, context):
    """The text that is put together by hand is valid, and the same to every reader."""
    await sessions.create_session("s1", "ada")
    await sessions.add_message("s1", "tool", {"a": [1, "ü"]}, message_id="m1")
    channel = context.catalogue.find("session:w1:s1")
    page = await context.log.read(channel)
    publication = page.publications[-1]
    event = channel.declaration.check_data(publication.data)
    assert msgspec.json.encode(event) == publication.data
    assert event.id == publication.id
    assert event.subject == "s1"


async def test_a_message_that_comes_again_is_added_once(sessions, context, hand):
    """The first one is returned; another one under its id is a conflict, never dropped."""
    await sessions.create_session("s1", "ada")
    first = await sessions.add_message("s1", "user", ("a", 1), message_id="m1")
    hand.move(5)
    await sessions.add_message("s1", "user", "b", message_id="m2")
    assert await sessions.add_message("s1", "user", ("a", 1), message_id="m1") == first
    for role, content in (("user", "other"), ("assistant", ["a", 1])):
        with pytest.raises(Conflict, match="m1"):
            await sessions.add_message("s1", role, content, message_id="m1")
    assert (await sessions.get_session("s1")).message_count == 2
    assert await types_of(context, "w1", "s1") == ["created", "message", "message"]


async def test_a_thousand_messages_are_known_again(sessions, context):
    """Each of the last thousand keeps its number; what is remembered stays bounded."""
    await sessions.create_session("s1", "ada")
    for number in range(1, 1_601):
        await sessions.add_message("s1", "user", number, message_id=f"m{number}")
        if number % 2:
            await sessions.update_session("s1", current_task=str(number))
    for number in range(601, 1_601, 37):
        again = await sessions.add_message("s1", "user", number, message_id=f"m{number}")
        assert again.seq == number
    assert (await sessions.get_session("s1")).message_count == 1_600
    ids = context.keys.session_message_ids("w1", "s1")
    assert 1_024 <= await context.store.execute("ZCOUNT", ids, 1, "+inf") <= 1_024 + 256
    # Every third change was an update.
    assert 340 <= await context.store.execute("ZCOUNT", ids, "-inf", -1) <= 340 + 90


async def test_no_message_is_lost_silently(sessions):
    """Where there is no session the writer is told."""
    with pytest.raises(NotFound):
        await sessions.add_message("s1", "user", "hello")
    await sessions.create_session("s1", "ada")
    await sessions.delete_session("s1")
    with pytest.raises(NotFound):
        await sessions.add_message("s1", "user", "hello")


@pytest.mark.parametrize("role", ["", "x" * 65])
async def test_a_role_is_a_word(sessions, role):
    """Neither empty nor endless."""
    with pytest.raises(BadRequest, match="role"):
        await sessions.add_message("s1", role, "x")


async def test_the_window_keeps_the_newest_and_the_rest_is_handed_over(sessions, context):
    """What falls out goes to on_trim, in order, once; the state and its replay agree."""
    told: list[Trimmed] = []
    context.session_settings = SessionSettings(window=3, on_trim=told.append)
    await sessions.create_session("s1", "ada")
    for number in range(1, 8):
        await sessions.add_message("s1", "user", number, message_id=f"m{number}")
    await sessions.add_message("s1", "user", 7, message_id="m7")
    state = await sessions.get_session("s1")
    assert [message.seq for message in state.recent_messages] == [5, 6, 7]
    assert (state.window, state.message_count) == (3, 7)
    assert {(one.workspace_id, one.session_id) for one in told} == {("w1", "s1")}
    assert [message.seq for one in told for message in one.messages] == [1, 2, 3, 4]
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")
    again = await sessions.add_message("s1", "user", 1, message_id="m1")
    assert again.seq == 1


async def test_a_hook_that_fails_does_not_fail_the_message(sessions, context, caplog):
    """The message stands; the log says what became of the hook."""

    def fail(_: Trimmed) -> None:
        raise ValueError("no summariser")

    context.session_settings = SessionSettings(window=1, on_trim=fail)
    await sessions.create_session("s1", "ada")
    for number in (1, 2):
        assert (await sessions.add_message("s1", "user", "x")).seq == number
    assert "on_trim failed for session s1" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": 1_001},
        {"remembered": 999},
        {"schema": 2},
        {"fields": {"version": int}},
        {"fields": {"a b": int}},
        {"fields": {"op_id": str}},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    """At the start, not with the first session."""
    with pytest.raises(SettingsError):
        SessionSettings(**wrong)


def test_the_state_takes_its_names():
    """No value of an application can hide one of the state's own."""
    taken = {"pending_approvals", "expected_version", "op_id"}
    assert {*WorkingMemoryState.__struct_fields__, *taken} == TAKEN


async def test_a_coroutine_is_no_hook():
    """It would never be awaited."""

    async def hook(_: Trimmed) -> None: ...

    with pytest.raises(SettingsError, match="plain function"):
        SessionSettings(on_trim=hook)


async def test_declared_fields_are_stored_beside_the_known_ones(sessions, context):
    """An application's own values, typed, in the state's extra."""
    context.session_settings = SessionSettings(fields={"plan": list[str]})
    await sessions.create_session("s1", "ada", fields={"plan": ["a"]})
    state = await sessions.update_session("s1", plan=["a", "b"])
    assert state.extra == {"plan": ["a", "b"]}
    assert (await stored(context, "w1", "s1"))["plan"] == ["a", "b"]
    with pytest.raises(BadRequest, match="plan"):
        await sessions.update_session("s1", plan="a")
    assert (await sessions.update_session("s1", plan=None)).extra == {}


async def test_what_a_later_version_stored_stays(sessions, context):
    """Fields and values that this version does not know survive a round trip."""
    await sessions.create_session("s1", "ada", fields={"current_agent": "a"})
    key = context.keys.session("w1", "s1")
    later = {"f:mood": b'{"calm":true}', "f:current_task": b'{"name":"now an object"}', "z": b"9"}
    await context.store.execute("HSET", key, *(part for item in later.items() for part in item))
    state = await sessions.update_session("s1", current_agent="b")
    await sessions.add_message("s1", "user", "x")
    assert state.extra == {"mood": {"calm": True}, "current_task": {"name": "now an object"}}
    assert state.current_task is None
    for field, text in later.items():
        assert await context.store.execute("HGET", key, field) == text
    assert (await stored(context, "w1", "s1"))["mood"] == {"calm": True}


def _to_schema_2(values):
    """Give the agent a name of its own kind: what was text is an object."""
    agent = values.pop("current_agent", None)
    return values if agent is None else {**values, "agent": {"name": agent}}


async def test_an_older_session_is_migrated(sessions, context):
    """When it is read; and stored so, and told, when its values next change."""
    await sessions.create_session("s1", "ada", fields={"current_agent": "a", "current_task": "t"})
    context.session_settings = SessionSettings(
        schema=2, migrations={1: _to_schema_2}, fields={"agent": dict}
    )
    read = await sessions.get_session("s1")
    assert (read.extra, read.current_agent) == ({"agent": {"name": "a"}}, None)
    assert (await stored(context, "w1", "s1"))["agent"] == {"name": "a"}
    await sessions.add_message("s1", "user", "x")
    assert await types_of(context, "w1", "s1") == ["created", "message"]
    state = await sessions.update_session("s1", expected_version=2, current_task="u")
    assert state == await sessions.get_session("s1")
    assert (state.extra, state.current_task) == ({"agent": {"name": "a"}}, "u")
    events = await events_of(context, "w1", "s1")
    assert events[2]["data"]["patch"] == {
        "agent": {"name": "a"},
        "current_agent": None,
        "current_task": "t",
    }
    assert await context.store.execute("HGET", context.keys.session("w1", "s1"), "s") == b"2"
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")
    context.session_settings = SessionSettings()
    for call in (sessions.get_session("s1"), sessions.update_session("s1", current_task="v")):
        with pytest.raises(Conflict, match="schema 2"):
            await call
    assert (await sessions.add_message("s1", "user", "an older node still adds")).seq == 2


async def test_a_deleted_session_is_gone_and_told_once(sessions, context):
    """Nothing of it is left but its events; the id may begin anew."""
    await sessions.create_session("s1", "ada", fields={"current_agent": "a"})
    await sessions.add_message("s1", "user", "hello", message_id="m1")
    assert await sessions.delete_session("s1", user_id="ada") is True
    assert await sessions.delete_session("s1") is False
    assert await sessions.delete_session("s1", user_id="ada") is False
    assert await sessions.get_session("s1") is None
    assert (await sessions.list_sessions()).items == []
    keys = await context.store.execute("KEYS", "fw:{w1}:*")
    assert sorted(keys) == [b"fw:{w1}:log:session:w1:s1", b"fw:{w1}:meta:session:w1:s1"]
    assert await types_of(context, "w1", "s1") == ["created", "message", "deleted"]
    begun = await sessions.create_session("s1", "bob")
    assert (begun.version, begun.user_id, begun.current_agent) == (1, "bob", None)
    assert (await sessions.add_message("s1", "user", "again", message_id="m1")).seq == 1
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")


async def test_sessions_are_listed_newest_first_page_by_page(sessions, hand):
    """Also those of one moment; by workspace and by user; each once."""
    for number in range(25):
        if number % 4 == 0:
            hand.move(1)
        await sessions.create_session(f"s{number:02}", "ada" if number % 3 else "bob")
    expected = sorted(
        (f"s{number:02}" for number in range(25)),
        key=lambda id: (int(id[1:]) // 4, id),
        reverse=True,
    )
    for user, wanted in (
        (None, expected),
        ("bob", [one for one in expected if int(one[1:]) % 3 == 0]),
    ):
        for limit in (1, 2, 7, 25, 100):
            found, cursor = [], ""
            while True:
                page = await sessions.list_sessions(user_id=user, limit=limit, cursor=cursor)
                assert len(page.items) <= limit
                found += [item.session_id for item in page.items]
                cursor = page.next
                if not cursor:
                    break
            assert found == wanted
    (newest,) = (await sessions.list_sessions(limit=1)).items
    assert (newest.user_id, newest.workspace_id, newest.version) == ("bob", "w1", 1)


async def test_the_older_protocol_says_the_same(valkey, hand):
    """Replies outside of scripts differ between RESP2 and RESP3."""
    url = valkey.url + ("&" if "?" in valkey.url else "?") + "protocol=2"
    async with TcpStore(url) as store:
        context = make_context(store, hand)
        sessions = SessionManager(context, "w1")
        for number in range(3):
            await sessions.create_session(f"s{number}", "ada", idle_ttl_s=60)
        page = await sessions.list_sessions(limit=2)
        rest = await sessions.list_sessions(limit=2, cursor=page.next)
        assert [one.session_id for one in page.items + rest.items] == ["s2", "s1", "s0"]
        assert (await sessions.add_message("s0", "user", "x")).seq == 1
        assert (await sessions.update_session("s0", current_agent="a")).version == 3
        assert await replay(context, "w1", "s0") == await stored(context, "w1", "s0")
        hand.move(60)
        await context.sweeper.sweep()
        assert (await types_of(context, "w1", "s0"))[-1] == "expired"


@pytest.mark.parametrize("cursor", ["x", "1", "-", "1-", "1-a:b", "٣-a", "1" * 30 + "-a"])
async def test_a_cursor_of_nobody_is_refused(sessions, cursor):
    """And so is a page of nothing."""
    with pytest.raises(BadRequest, match="cursor"):
        await sessions.list_sessions(cursor=cursor)
    with pytest.raises(BadRequest, match="limit"):
        await sessions.list_sessions(limit=0)


async def test_a_list_forgets_what_lost_its_keys(sessions, context):
    """An entry without a session does not stay for ever, and is on no page."""
    for id in ("s1", "s2"):
        await sessions.create_session(id, "ada")
    await context.store.execute("DEL", context.keys.session("w1", "s1"))
    for user in (None, "ada"):
        page = await sessions.list_sessions(user_id=user)
        assert [item.session_id for item in page.items] == ["s2"]
    for key in (context.keys.sessions("w1"), context.keys.sessions_of("w1", "ada")):
        assert await context.store.execute("ZRANGE", key, 0, -1) == [b"s2"]


async def test_a_users_list_shows_no_session_of_another(store, hand):
    """Not even one that ended and began anew while the list was read."""
    plain = SessionManager(make_context(store, hand), "w1")

    class Slow:
        def __getattr__(self, name):
            return getattr(store, name)

        async def pipeline(self, *args, **options):
            await plain.delete_session("s1")
            await plain.create_session("s1", "bob")
            return await store.pipeline(*args, **options)

    await plain.create_session("s1", "ada")
    slow = SessionManager(make_context(Slow(), hand), "w1")
    assert (await slow.list_sessions(user_id="ada")).items == []


async def test_a_snapshot_of_nothing_has_a_position(sessions, context):
    """A reader that comes before the session can wait for it from there."""
    empty = await snapshot(context, "w1", "s1")
    assert (empty.data, empty.position.offset, empty.id) == (b"null", 0, "")
    await sessions.create_session("s1", "ada")
    taken = await snapshot(context, "w1", "s1")
    (event,) = await events_of(context, "w1", "s1")
    assert (taken.position.epoch, taken.position.offset) == (empty.position.epoch, 1)
    assert taken.id == event["id"]
    assert b"\n" not in taken.data


class Lossy:
    """A store that loses replies: the script ran, and nobody hears of it."""

    def __init__(self, store, losses):
        self._store = store
        self.losses = losses

    def __getattr__(self, name):
        """Be the store otherwise."""
        return getattr(self._store, name)

    async def run(self, script, keys, args, **options):
        """Run, and lose the reply while any are to be lost."""
        reply = await self._store.run(script, keys, args, **options)
        if self.losses:
            self.losses -= 1
            raise OutcomeUnknown("the reply was lost")
        return reply


async def test_a_lost_reply_changes_nothing_twice(store, hand):
    """Each change whose reply is lost once is repeated here, and done once."""
    lossy = Lossy(store, 1)
    context = make_context(lossy, hand)
    sessions = SessionManager(context, "w1")
    assert (await sessions.create_session("s1", "ada")).version == 1
    lossy.losses = 1
    assert (await sessions.add_message("s1", "user", "x")).seq == 1
    lossy.losses = 1
    assert (await sessions.update_session("s1", current_agent="a")).version == 3
    lossy.losses = 1
    assert await sessions.extend_session("s1", 60) == NOON + timedelta(seconds=3_660)
    lossy.losses = 1
    assert await sessions.delete_session("s1") is True
    assert await types_of(context, "w1", "s1") == [
        *("created", "message", "updated", "extended", "deleted")
    ]


async def test_an_unknown_outcome_can_be_repeated_by_the_caller(store, hand):
    """With the same id; what was done already is not done again."""
    lossy = Lossy(store, 0)
    context = make_context(lossy, hand)
    sessions = SessionManager(context, "w1")
    await sessions.create_session("s1", "ada")
    for change in (
        lambda: sessions.add_message("s1", "user", "x", message_id="m1"),
        lambda: sessions.update_session("s1", op_id="o1", current_agent="a"),
        lambda: sessions.extend_session("s1", 60, op_id="o2"),
    ):
        lossy.losses = 2
        with pytest.raises(OutcomeUnknown):
            await change()
        await change()
    assert await types_of(context, "w1", "s1") == ["created", "message", "updated", "extended"]


@pytest.mark.parametrize("broken", ["log", "log_meta"])
async def test_a_change_that_cannot_be_told_does_not_happen(sessions, context, broken):
    """State and event: both or neither, for each script."""
    before = await sessions.create_session("s1", "ada")
    channel = context.catalogue.find("session:w1:s1")
    key = getattr(context.keys, broken)(channel)
    await context.store.execute("SET", key, "not a log")
    for call in (
        sessions.update_session("s1", current_agent="a"),
        sessions.add_message("s1", "user", "x"),
        sessions.extend_session("s1"),
        sessions.delete_session("s1"),
    ):
        with pytest.raises(StoreRefused):
            await call
    assert await sessions.get_session("s1") == before
    other = context.catalogue.find("session:w1:s2")
    await context.store.execute("SET", getattr(context.keys, broken)(other), "not a log")
    with pytest.raises(StoreRefused):
        await sessions.create_session("s2", "ada")
    assert await sessions.get_session("s2") is None
    assert [one.session_id for one in (await sessions.list_sessions()).items] == ["s1"]


def test_noon_is_noon():
    """The two spellings of the tests' own time agree."""
    assert NOON.timestamp() * 1000 == NOON_MS
