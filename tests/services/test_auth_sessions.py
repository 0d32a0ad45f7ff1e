"""Login sessions: one secret each, good until it is taken back, and not a moment longer."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import BadRequest, OutcomeUnknown, Unauthorized
from services.auth_session import Record
from services.auth_sessions import AuthSessions, _records, install
from services.login_token import LoginToken
from services.store.port import Store
from services.store.script import load_script

from .accounts import HandClock, calls, context_of, told


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


@pytest.fixture
def clock():
    """The time, moved by hand."""
    return HandClock()


@pytest.fixture
def context(store, keys, clock):
    """The ground, with the sweeper's handler installed."""
    made = context_of(store, keys, clock)
    install(made)
    return made


@pytest.fixture
def sessions(context):
    """The login sessions under test."""
    return AuthSessions(context)


def types(events):
    """Return the types of events."""
    return [event["type"] for event in events]


# -- beginning ------------------------------------------------------------------------------


async def test_a_session_is_what_it_was_made_as(sessions, context):
    """The token leads to the session, and its beginning is told without anything secret."""
    issued = await sessions.create(
        "ann", workspaces=["w2", "w1"], scopes=["publish"], device="phone", address="::1"
    )
    found = await sessions.verify(issued.token)
    assert found == issued.session
    identity = found.identity
    assert (identity.user, identity.session, identity.session_version) == ("ann", found.id, 1)
    assert identity.workspaces == {"w1", "w2"}
    assert identity.scopes == {"publish"}
    assert identity.expires_at == found.ends_at.timestamp()
    (event,) = await told(context, "auth:ann")
    assert event["type"] == "auth.session_created"
    assert event["data"]["session"] == found.id
    assert event["data"]["device"] == "phone"


async def test_redis_holds_no_secret(sessions, store, keys):
    """Not in a key, not in a value, not in the log: only the digest."""
    issued = await sessions.create("ann")
    secret = LoginToken.parse(issued.token).secret
    everything = []
    for key in await store.execute("KEYS", "*"):
        everything += [key, await store.execute("DUMP", key)]
    assert not any(secret.encode() in text for text in everything)
    assert secret not in repr(issued)
    assert secret not in repr(LoginToken.parse(issued.token))
    record = await store.execute("HGET", keys.auth_sessions("ann"), issued.session.id)
    assert LoginToken.parse(issued.token).digest.encode() in record


@pytest.mark.parametrize(
    "changes",
    [
        {"workspaces": ["a:b"]},
        {"scopes": ["with space"]},
        {"idle_ttl_s": 0},
        {"max_age_s": 0},
        {"limit": 0},
        {"limit": 101},
        {"device": "\ud800"},
        {"workspaces": [f"w{n}" for n in range(257)]},
    ],
    ids=str,
)
async def test_what_is_out_of_range_is_refused(sessions, store, changes):
    """And nothing is written."""
    with pytest.raises(BadRequest):
        await sessions.create("ann", **changes)
    assert await store.execute("DBSIZE") == 0


@pytest.mark.parametrize("user", ["", "a~b", "a:b", "{a}", "a\n", "a" * 65])
async def test_a_user_is_an_id(sessions, store, user):
    """No separator gets into a key."""
    for call in (
        sessions.create(user),
        sessions.list_sessions(user),
        sessions.revoke(user, "s" * 16),
        sessions.revoke_all(user),
        sessions.find(user, "s" * 16),
    ):
        with pytest.raises(BadRequest):
            await call
    assert await store.execute("DBSIZE") == 0


async def test_one_too_many_ends_the_one_used_longest_ago(sessions, context, clock):
    """And tells of it, after the beginning of the new one."""
    first = await sessions.create("ann", limit=2)
    second = await sessions.create("ann", limit=2)
    clock.forward(61)
    await sessions.verify(first.token)
    third = await sessions.create("ann", limit=2)
    with pytest.raises(Unauthorized):
        await sessions.verify(second.token)
    assert {one.id for one in await sessions.list_sessions("ann")} == {
        first.session.id,
        third.session.id,
    }
    *_, event = await told(context, "auth:ann")
    assert event["data"] == {
        "user": "ann",
        "sessions": [second.session.id],
        "reason": "limit",
        "actor": "",
    }


async def test_the_order_of_beginning_decides_between_equals(sessions):
    """Sessions of the same millisecond go in the order in which they came."""
    made = [await sessions.create("ann", limit=3) for _ in range(12)]
    left = {one.id for one in await sessions.list_sessions("ann")}
    assert left == {one.session.id for one in made[-3:]}


async def test_a_lower_limit_ends_as_many_as_it_takes(sessions, context):
    """One event tells of all."""
    made = [await sessions.create("ann") for _ in range(5)]
    await sessions.create("ann", limit=2)
    *_, event = await told(context, "auth:ann")
    assert event["data"]["sessions"] == [one.session.id for one in made[:4]]


# -- using ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda user, session, secret: f"bob~{session}.{secret}",
        lambda user, session, secret: f"{user}~{'x' * 16}.{secret}",
        lambda user, session, secret: f"{user}~{session}.{'x' * 43}",
        lambda user, session, secret: f"{user}~{session}.{secret[:-1]}",
        lambda user, session, secret: f"{user}~{session}.{secret}\n",
        lambda user, session, secret: f"{user}~{session}",
        lambda user, session, secret: f"{user}~~{session}.{secret}",
        lambda user, session, secret: "",
        lambda user, session, secret: "é~x",
    ],
)
async def test_any_other_token_is_refused(sessions, change):
    """Another user, session or secret, or none at all."""
    issued = await sessions.create("ann")
    await sessions.create("bob")
    parts = LoginToken.parse(issued.token)
    with pytest.raises(Unauthorized) as caught:
        await sessions.verify(change(*parts))
    assert parts.secret not in str(caught.value)


async def test_use_moves_the_idle_end_and_never_the_last_one(sessions, clock):
    """Used in time it lives on, up to its last end."""
    issued = await sessions.create("ann", idle_ttl_s=100, max_age_s=250)
    for _ in range(4):
        clock.forward(60)
        found = await sessions.verify(issued.token)
        assert found.ends_at == issued.session.ends_at
        assert found.expires_at <= found.ends_at
    clock.forward(10)
    with pytest.raises(Unauthorized):
        await sessions.verify(issued.token)
    assert await sessions.list_sessions("ann") == []
    assert await sessions.find("ann", issued.session.id) is None


async def test_unused_it_is_over(sessions, clock):
    """Whether or not anybody swept."""
    issued = await sessions.create("ann", idle_ttl_s=100)
    clock.forward(99.9)
    await sessions.verify(issued.token)
    clock.forward(100)
    with pytest.raises(Unauthorized):
        await sessions.verify(issued.token)


@pytest.mark.parametrize(
    ("after_s", "expected"),
    [(0, {"hget": 1}), (59, {"hget": 1}), (60, {"hget": 2, "evalsha": 1, "hset": 1})],
)
async def test_a_use_takes_one_command_and_is_written_once_a_minute(
    valkey, sessions, clock, after_s, expected
):
    """On some servers every command is billed, so the numbers are a promise."""
    issued = await sessions.create("ann")
    clock.forward(61)
    await sessions.verify(issued.token)  # the script is known
    clock.forward(after_s)
    before = calls(valkey)
    await sessions.verify(issued.token)
    after = calls(valkey)
    assert {name: n - before.get(name, 0) for name, n in after.items() if n > before.get(name, 0)} \
        == expected  # fmt: skip


async def test_uses_at_the_same_time_write_once(valkey, sessions, clock):
    """The script looks at the time again."""
    issued = await sessions.create("ann")
    clock.forward(61)
    before = calls(valkey)
    await asyncio.gather(*(sessions.verify(issued.token) for _ in range(50)))
    assert calls(valkey)["hset"] - before["hset"] == 1


async def test_each_change_takes_few_commands(valkey, sessions, store):
    """Billed, like every command inside a script."""
    seen = {}
    issued = await sessions.create("ann")
    warm = await sessions.rotate(issued.token)
    await sessions.revoke("ann", warm.session.id)
    one = await sessions.create("ann")

    async def count(name, call):
        before = calls(valkey)
        made = await call
        after = calls(valkey)
        grown = {key: n - before.get(key, 0) for key, n in after.items()}
        seen[name] = {key: n for key, n in grown.items() if n}
        return made

    append = {"evalsha": 1, "hmget": 1, "publish": 1, "xadd": 1}
    two = await count("create", sessions.create("ann"))
    await count("rotate", sessions.rotate(one.token))
    await count("revoke", sessions.revoke("ann", two.session.id))
    await count("nothing", sessions.revoke("ann", two.session.id))
    for once in seen.values():
        once.pop("pexpire", None)  # the log's, once a second, and the hash's, when it grows
    assert seen == {
        "create": append | {"zadd": 2, "hgetall": 1, "hset": 2, "pttl": 1},
        "rotate": append | {"hget": 2, "hset": 2},
        "revoke": append | {"hexists": 1, "hset": 1, "hdel": 1, "zrem": 1},
        "nothing": {"evalsha": 1, "hexists": 1},
    }


# -- ending ---------------------------------------------------------------------------------


async def test_what_is_revoked_is_over_at_once(sessions, context):
    """Once; the second time there is none."""
    issued = await sessions.create("ann")
    assert await sessions.revoke("ann", issued.session.id, reason="logout", actor="ann")
    with pytest.raises(Unauthorized):
        await sessions.verify(issued.token)
    assert not await sessions.revoke("ann", issued.session.id)
    events = await told(context, "auth:ann")
    assert types(events) == ["auth.session_created", "auth.session_revoked"]
    assert events[-1]["data"]["reason"] == "logout"


async def test_nobody_revokes_what_is_anothers(sessions):
    """A public id says nothing without its user."""
    issued = await sessions.create("ann")
    assert not await sessions.revoke("bob", issued.session.id)
    assert await sessions.revoke_all("bob") == []
    await sessions.verify(issued.token)


async def test_all_can_be_revoked_but_one(sessions, context):
    """The rest goes in one event."""
    made = [await sessions.create("ann") for _ in range(4)]
    ended = await sessions.revoke_all("ann", keep=made[1].session.id)
    assert set(ended) == {one.session.id for one in made} - {made[1].session.id}
    await sessions.verify(made[1].token)
    *_, event = await told(context, "auth:ann")
    assert event["data"]["sessions"] == ended
    assert await sessions.revoke_all("ann") == [made[1].session.id]
    assert await sessions.list_sessions("ann") == []


async def test_the_sweeper_ends_what_nobody_used(sessions, context, clock, store, keys):
    """It is told once, with the reason, and nothing is left behind."""
    idle = await sessions.create("ann", idle_ttl_s=100)
    used = await sessions.create("ann", idle_ttl_s=100, max_age_s=150)
    clock.forward(80)
    await sessions.verify(used.token)
    clock.forward(21)
    await context.sweeper.sweep()
    assert [one.id for one in await sessions.list_sessions("ann")] == [used.session.id]
    clock.forward(50)
    await context.sweeper.sweep()
    await context.sweeper.sweep()
    events = await told(context, "auth:ann")
    assert [event["data"] for event in events[2:]] == [
        {"user": "ann", "session": idle.session.id, "reason": "idle"},
        {"user": "ann", "session": used.session.id, "reason": "absolute"},
    ]
    assert await store.execute("EXISTS", keys.auth_sessions("ann"), keys.due("ann")) == 0


async def test_what_was_used_is_looked_at_when_it_ends(sessions, context, clock, store, keys):
    """Not again and again before that: the sweeper moves it to its new end."""
    issued = await sessions.create("ann", idle_ttl_s=100)
    clock.forward(80)
    used = await sessions.verify(issued.token)
    clock.forward(30)
    await context.sweeper.sweep()
    due_ms = await store.execute("ZSCORE", keys.due("ann"), f"auth:{issued.session.id}")
    assert float(due_ms) == used.expires_at.timestamp() * 1000
    assert [one.id for one in await sessions.list_sessions("ann")] == [issued.session.id]


async def test_an_old_secret_keeps_no_session_alive(sessions, store, keys, clock):
    """A use that was under way when the secret changed writes nothing."""
    issued = await sessions.create("ann")
    fresh = await sessions.rotate(issued.token)
    before = await store.execute("HGET", keys.auth_sessions("ann"), issued.session.id)
    old, now_ms = LoginToken.parse(issued.token), int(clock() * 1000) + 120_000
    for digest, expected in ((old.digest, False), (LoginToken.parse(fresh.token).digest, True)):
        written = await store.run(
            load_script("auth_touch"),
            [keys.auth_sessions("ann")],
            [old.session, digest, now_ms, 60_000],
        )
        assert bool(written) is expected
        after = await store.execute("HGET", keys.auth_sessions("ann"), issued.session.id)
        assert (after != before) is expected


async def test_the_hash_outlives_its_sessions_by_a_day(sessions, store, keys):
    """So that the sweeper, not Redis, ends them; a short session does not shorten it."""
    await sessions.create("ann", max_age_s=86_400)
    await sessions.create("ann", max_age_s=60, idle_ttl_s=60)
    left_ms = await store.execute("PTTL", keys.auth_sessions("ann"))
    assert 2 * 86_400_000 - 60_000 < left_ms <= 2 * 86_400_000


# -- rotating -------------------------------------------------------------------------------


async def test_a_rotated_session_has_one_good_secret(sessions, context):
    """The id stays, the rights change, the old secret is no good."""
    first = await sessions.create("ann", workspaces=["w1"], scopes=["a"], device="phone")
    second = await sessions.rotate(first.token, scopes=["a", "admin"])
    with pytest.raises(Unauthorized):
        await sessions.verify(first.token)
    found = await sessions.verify(second.token)
    assert (found.id, found.version, found.device) == (first.session.id, 2, "phone")
    assert (found.workspaces, found.scopes) == ({"w1"}, {"a", "admin"})
    assert found.ends_at == first.session.ends_at
    *_, event = await told(context, "auth:ann")
    assert event["data"] == {"user": "ann", "session": found.id, "version": 2}


async def test_one_of_many_rotations_wins(sessions, context):
    """However many come at once: one new secret, one event."""
    issued = await sessions.create("ann")
    done = await asyncio.gather(
        *(sessions.rotate(issued.token) for _ in range(20)), return_exceptions=True
    )
    winners = [one for one in done if not isinstance(one, Exception)]
    assert len(winners) == 1
    assert all(isinstance(one, Unauthorized) for one in done if isinstance(one, Exception))
    assert (await sessions.verify(winners[0].token)).version == 2
    assert types(await told(context, "auth:ann")).count("auth.session_rotated") == 1


async def test_no_use_brings_back_what_was_revoked(sessions, clock, store, keys):
    """A use that began before the end is refused, or was before it."""
    for _ in range(30):
        issued = await sessions.create("ann")
        clock.forward(61)
        uses = [asyncio.ensure_future(sessions.verify(issued.token)) for _ in range(4)]
        await sessions.revoke("ann", issued.session.id)
        with pytest.raises(Unauthorized):
            await sessions.verify(issued.token)
        await asyncio.gather(*uses, return_exceptions=True)
        assert await store.execute("HEXISTS", keys.auth_sessions("ann"), issued.session.id) == 0


# -- when a reply is lost -------------------------------------------------------------------


class Deaf:
    """A store whose next scripts are carried out without anybody hearing of it."""

    def __init__(self, store, times):
        self._store = store
        self.times = times

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def run(self, script, keys, args, *, timeout_s=None):
        """Run the script; say that there was no answer."""
        reply = await self._store.run(script, keys, args, timeout_s=timeout_s)
        if self.times and script.name.startswith("auth_"):
            self.times -= 1
            raise OutcomeUnknown("no reply")
        return reply


async def test_a_lost_reply_changes_nothing(store, keys, clock):
    """Every change is tried again with the same ids, and happens once."""
    deaf = Deaf(store, 0)
    context = context_of(deaf, keys, clock)
    sessions = AuthSessions(context)
    deaf.times = 1
    first = await sessions.create("ann", limit=1)
    deaf.times = 1
    second = await sessions.rotate(first.token)
    assert (await sessions.verify(second.token)).version == 2
    deaf.times = 1
    await sessions.revoke("ann", first.session.id)
    assert types(await told(context, "auth:ann")) == [
        "auth.session_created",
        "auth.session_rotated",
        "auth.session_revoked",
    ]
    deaf.times = 2
    with pytest.raises(OutcomeUnknown):
        await sessions.create("ann")


def test_both_protocols_list_alike():
    """HGETALL is flat in RESP2 and a map in RESP3."""
    text = b"digest 2 1000 2000 3000 4000 1000 7 {}"
    flat = list(_records([b"a", text, b"b", text]))
    assert flat == list(_records({b"a": text, b"b": text}))
    assert flat[0] == ("a", Record("digest", 2, 1000, 2000, 3000, 4000, 1000, b"{}"))


async def test_a_node_whose_clock_is_behind_takes_nothing_away(sessions, clock):
    """What was used on another node ends no earlier for being used on this one."""
    issued = await sessions.create("ann", idle_ttl_s=600)
    clock.forward(300)
    ends = (await sessions.verify(issued.token)).expires_at
    clock.forward(-30)
    rotated = await sessions.rotate(issued.token)
    assert rotated.session.expires_at == ends
