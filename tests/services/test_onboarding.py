"""Onboarding: one a workspace, step by step, and every step is told."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import (
    BadRequest,
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    VersionConflict,
)
from services.onboarding import Onboarding, install
from services.store.port import Store

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
def onboarding(context):
    """An onboarding without declared steps."""
    return Onboarding(context, "w1")


def types(events):
    """Return the types of events, without their family."""
    return [event["type"].removeprefix("onboarding.") for event in events]


async def test_a_workspace_is_led_through(onboarding, context):
    """From the first step to the end, each change told with its version, step and patch."""
    steps = onboarding.with_steps("profile", "voice", "icps")
    begun = await steps.start("ann", data={"plan": "pro"})
    assert (begun.step, begun.version, begun.status, begun.user_id) == (
        "profile", 1, "started", "ann",
    )  # fmt: skip
    await steps.advance("voice", patch={"profile": {"name": "Acme"}}, user_id="ann")
    await steps.update({"profile": {"site": "acme.example"}, "plan": None})
    await steps.advance("icps", expected_version=3)
    done = await steps.complete(patch={"icps": [1]})
    assert (done.status, done.step, done.version) == ("completed", "icps", 5)
    assert done.data == {"profile": {"name": "Acme", "site": "acme.example"}, "icps": [1]}
    assert done.completed_at is not None
    assert await steps.get(user_id="ann") == done
    events = await told(context, "workspace:w1")
    assert types(events) == ["started", "updated", "updated", "updated", "completed"]
    assert [event["data"]["version"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["data"]["step"] for event in events] == [
        "profile", "voice", "voice", "icps", "icps",
    ]  # fmt: skip
    assert events[2]["data"]["patch"] == {"profile": {"site": "acme.example"}, "plan": None}


async def test_who_starts_again_gets_what_there_is(onboarding, context):
    """Whoever asks, at whatever step it is."""
    await onboarding.start("ann", step="a")
    moved = await onboarding.advance("b")
    assert await onboarding.start("bob") == moved
    begun = await asyncio.gather(*(Onboarding(context, "w2").start(f"u{n}") for n in range(10)))
    assert len({state.user_id for state in begun}) == 1
    assert types(await told(context, "workspace:w2")) == ["started"]


async def test_declared_steps_are_checked(onboarding):
    """On to the next, back to any; no step is skipped, and the end comes after the last."""
    steps = onboarding.with_steps("a", "b", "c")
    with pytest.raises(BadRequest):
        await steps.start("ann", step="b")
    await steps.start("ann")
    with pytest.raises(Conflict, match="cannot go to 'c'"):
        await steps.advance("c")
    with pytest.raises(BadRequest):
        await steps.advance("d")
    with pytest.raises(Conflict, match="cannot be completed"):
        await steps.complete()
    await steps.advance("b")
    await steps.advance("b")
    await steps.advance("c")
    await steps.advance("a")
    with pytest.raises(Conflict):
        await steps.advance("c")
    for bad in (("a", "a"), ("a,b",), ("",)):
        with pytest.raises(BadRequest):
            onboarding.with_steps(*bad)


async def test_what_cannot_be_done_says_why(onboarding):
    """And nothing changes."""
    with pytest.raises(NotFound):
        await onboarding.advance("a")
    await onboarding.start("ann")
    with pytest.raises(PermissionDenied):
        await onboarding.advance("a", user_id="bob")
    with pytest.raises(PermissionDenied):
        await onboarding.reset(user_id="bob")
    with pytest.raises(VersionConflict) as caught:
        await onboarding.update({"x": 1}, expected_version=7)
    assert caught.value.current == 1
    with pytest.raises(VersionConflict):
        await onboarding.reset(expected_version=7)
    assert await onboarding.get(user_id="bob") is None
    await onboarding.complete()
    with pytest.raises(Conflict, match="completed"):
        await onboarding.update({"x": 1})
    assert (await onboarding.get()).version == 2


async def test_tenants_are_apart(onboarding, context):
    """No id leads to another workspace."""
    await onboarding.start("ann")
    assert await Onboarding(context, "w2").get() is None
    for workspace in ("w1:x", "{w1}", "", "w\n"):
        with pytest.raises(BadRequest):
            Onboarding(context, workspace)
    with pytest.raises(BadRequest):
        await onboarding.start("a:b")


async def test_an_operation_is_done_once(onboarding, context):
    """However often it is asked for."""
    await onboarding.start("ann")
    first = await onboarding.advance("a", op_id="op")
    assert await onboarding.advance("a", op_id="op") == first
    await onboarding.complete(op_id="end")
    again = await onboarding.complete(op_id="end")
    assert again.status == "completed"
    assert types(await told(context, "workspace:w1")) == ["started", "updated", "completed"]


async def test_after_a_reset_it_begins_anew_and_versions_go_on(onboarding, context):
    """A reader that knows a version never sees it mean something else."""
    await onboarding.start("ann", data={"x": 1})
    assert await onboarding.reset()
    assert not await onboarding.reset()
    assert await onboarding.get() is None
    begun = await onboarding.start("bob")
    assert (begun.version, begun.data, begun.user_id) == (3, {}, "bob")
    events = await told(context, "workspace:w1")
    assert types(events) == ["started", "reset", "started"]
    assert [event["data"]["version"] for event in events] == [1, 2, 3]


async def test_it_ends_when_nobody_goes_on(onboarding, context, clock, store, keys):
    """Each change moves the end on; the end is told once."""
    await onboarding.start("ann", expires_in_s=100)
    clock.forward(60)
    await onboarding.advance("a")
    clock.forward(60)
    await context.sweeper.sweep()
    assert (await onboarding.get()).expires_at is not None
    clock.forward(41)
    assert await onboarding.get() is None
    with pytest.raises(NotFound):
        await onboarding.update({"x": 1})
    await context.sweeper.sweep()
    await context.sweeper.sweep()
    assert types(await told(context, "workspace:w1")) == ["started", "updated", "expired"]
    assert await store.execute("EXISTS", keys.due("w1")) == 0


async def test_who_comes_before_the_sweeper_finds_it_ended(onboarding, context, clock):
    """The end is told before the new beginning."""
    await onboarding.start("ann", expires_in_s=100)
    clock.forward(101)
    begun = await onboarding.start("bob", expires_in_s=100)
    assert (begun.user_id, begun.version) == ("bob", 3)
    assert types(await told(context, "workspace:w1")) == ["started", "expired", "started"]


async def test_what_is_completed_does_not_end(onboarding, context, clock):
    """It is kept."""
    await onboarding.start("ann", expires_in_s=100)
    await onboarding.complete()
    clock.forward(1_000)
    await context.sweeper.sweep()
    assert (await onboarding.get()).status == "completed"


async def test_writers_of_one_object_all_get_through(onboarding, context):
    """Nothing is lost, and each has a version of its own."""
    await onboarding.start("ann")
    await asyncio.gather(*(onboarding.update({"a": {f"k{n}": n}}) for n in range(20)))
    state = await onboarding.get()
    assert state.data == {"a": {f"k{n}": n for n in range(20)}}
    versions = [event["data"]["version"] for event in await told(context, "workspace:w1")]
    assert versions == list(range(1, 22))


async def test_a_lost_reply_may_be_repeated(store, keys, clock):
    """With the same op id the change happens once."""

    class Deaf:
        """A store that does not hear."""

        deaf = False

        def __getattr__(self, name):
            return getattr(store, name)

        async def run(self, script, *args, **options):
            """Run the script; say that there was no answer."""
            reply = await store.run(script, *args, **options)
            if self.deaf:
                self.deaf = False
                raise OutcomeUnknown("no reply")
            return reply

    deaf = Deaf()
    context = context_of(deaf, keys, clock)
    onboarding = Onboarding(context, "w1")
    await onboarding.start("ann")
    deaf.deaf = True
    with pytest.raises(OutcomeUnknown):
        await onboarding.advance("a", op_id="op")
    assert (await onboarding.advance("a", op_id="op")).version == 2


async def test_a_change_takes_few_commands(valkey, onboarding):
    """Billed on some servers."""
    await onboarding.start("ann")
    await onboarding.advance("a")
    before = calls(valkey)
    await onboarding.advance("b", patch={"x": 1})
    grown = {name: n - before.get(name, 0) for name, n in calls(valkey).items()}
    grown.pop("pexpire", None)
    assert {name: n for name, n in grown.items() if n} == {
        "evalsha": 1, "hgetall": 1, "hmget": 1, "xadd": 1, "hset": 2, "publish": 1,
    }  # fmt: skip


async def test_an_op_id_of_another_user_opens_nothing(onboarding):
    """Who has the same one is refused all the same."""
    await onboarding.start("ann", data={"secret": 1})
    await onboarding.advance("a", user_id="ann", op_id="op")
    with pytest.raises(PermissionDenied):
        await onboarding.advance("a", user_id="bob", op_id="op")
    assert (await onboarding.advance("a", user_id="ann", op_id="op")).version == 2


async def test_what_ended_leaves_its_version_for_a_year(onboarding, store, context):
    """And what begins in that time has no end but its own."""
    begun = await onboarding.start("ann")
    await onboarding.reset()
    key = context.keys.onboarding("w1")
    assert 399 * 86_400_000 < await store.execute("PTTL", key) <= 400 * 86_400_000
    again = await onboarding.start("ann")
    assert again.version == begun.version + 2
    assert await store.execute("PTTL", key) == -1
