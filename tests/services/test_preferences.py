"""Preferences: nobody's change undoes another's, and every change is told."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from channels.errors import BadRequest, LimitExceeded, VersionConflict
from services.documents import merge
from services.preferences import Preferences
from services.store.port import Store

from .accounts import HandClock, calls, context_of, told


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


class Mail(msgspec.Struct):
    """A structure inside."""

    daily: bool = False
    hour: int = 8


class Taste(msgspec.Struct, forbid_unknown_fields=True):
    """What a program knows of."""

    theme: str = "light"
    mail: Mail = msgspec.field(default_factory=Mail)
    size: int | None = None


@pytest.fixture
def context(store, keys):
    """The ground."""
    return context_of(store, keys, HandClock())


@pytest.fixture
def preferences(context) -> Preferences[dict[str, Any]]:
    """The preferences of a workspace."""
    return Preferences(context, "w1", shape=dict)


async def test_nothing_is_stored_at_first(preferences):
    """Version 0, and no change."""
    state = await preferences.get()
    assert (state.values, state.version, state.changed_at) == ({}, 0, None)


async def test_a_patch_is_stored_and_told(preferences, context):
    """With the version it made, and the patch as it was given."""
    await preferences.patch({"theme": "dark", "mail": {"daily": True, "hour": 7}}, user="ann")
    state = await preferences.patch({"theme": None, "mail": {"hour": None}}, user="ann")
    assert (state.values, state.version) == ({"mail": {"daily": True}}, 2)
    assert state.changed_at is not None
    assert await preferences.get(user="ann") == state
    events = await told(context, "workspace:w1")
    assert [event["type"] for event in events] == ["preferences.updated"] * 2
    assert events[1]["data"] == {
        "workspace": "w1",
        "version": 2,
        "patch": {"theme": None, "mail": {"hour": None}},
        "user": "ann",
    }


async def test_patches_told_add_up_to_what_is_stored(preferences, context):
    """A reader that applies each event in turn has the preferences."""
    patches = [{"a": {"b": {"c": 1}}}, {"a": {"b": {"d": None, "e": [None]}}}, {"a": 3}, {"a": {}}]
    for patch in patches:
        await preferences.patch(patch)
    seen: Any = {}
    for event in await told(context, "workspace:w1"):
        seen = merge(seen, event["data"]["patch"])
    assert seen == (await preferences.get()).values == {"a": {}}


async def test_tenants_and_users_are_apart(preferences, context):
    """By workspace, by user, and the workspace's own from its users'."""
    await preferences.patch({"a": 1})
    await preferences.patch({"a": 2}, user="ann")
    other = Preferences(context, "w2", shape=dict)
    assert (await other.get()).values == {}
    assert (await other.get(user="ann")).values == {}
    assert (await preferences.get(user="bob")).values == {}
    assert (await preferences.get()).values == {"a": 1}
    for user in ("a:b", "{w2}", "x" * 65, "ann\n"):
        with pytest.raises(BadRequest):
            await preferences.patch({"a": 3}, user=user)
    with pytest.raises(BadRequest):
        Preferences(context, "w1}:prefs", shape=dict)


async def test_what_holds_for_a_user_lies_over_what_holds_for_all(preferences):
    """Theirs, over the workspace's, over the defaults."""
    await preferences.patch({"theme": "dark", "mail": {"hour": 6}})
    await preferences.patch({"mail": {"daily": True}}, user="ann")
    typed = preferences.typed(Taste, defaults={"size": 12})
    state = await typed.effective("ann")
    assert state.values == Taste(theme="dark", mail=Mail(daily=True, hour=6), size=12)
    assert state.version == 1
    assert (await typed.get(user="ann")).values == Taste(mail=Mail(daily=True), size=12)


async def test_a_struct_refuses_what_it_is_not(preferences):
    """Before anything is written; what others wrote survives."""
    await preferences.patch({"newer": {"x": 1}}, user="ann")
    typed = preferences.typed(Taste)
    for patch in ({"teme": 1}, {"theme": 1}, {"mail": {"hour": "x"}}, {"mail": 3}, {"newer": 1}):
        with pytest.raises(BadRequest):
            await typed.patch(patch, user="ann")
    state = await typed.patch({"mail": {"hour": 9}}, user="ann")
    assert state.values == Taste(mail=Mail(hour=9))
    assert (await preferences.get(user="ann")).values == {"newer": {"x": 1}, "mail": {"hour": 9}}
    await preferences.patch({"theme": 5}, user="ann")
    with pytest.raises(BadRequest, match="not a Taste"):
        await typed.get(user="ann")


async def test_a_version_can_be_expected(preferences, context):
    """The one who comes second is told where they are now."""
    await preferences.patch({"a": 1}, expected_version=0)
    with pytest.raises(VersionConflict) as caught:
        await preferences.patch({"a": 2}, expected_version=0)
    assert caught.value.current == 1
    with pytest.raises(VersionConflict):
        await preferences.patch({}, expected_version=0)
    assert (await preferences.patch({"a": {"b": 1}}, expected_version=1)).version == 2
    assert len(await told(context, "workspace:w1")) == 2


async def test_an_operation_is_done_once(preferences, context):
    """Whatever came in between; another user's may have the same name."""
    await preferences.patch({"a": 1}, op_id="op")
    await preferences.patch({"a": 2})
    again = await preferences.patch({"a": 1}, op_id="op")
    assert (again.values, again.version) == ({"a": 2}, 2)
    await preferences.patch({"a": 9}, op_id="op", user="ann")
    assert len(await told(context, "workspace:w1")) == 3


async def test_an_empty_patch_is_no_change(preferences, context):
    """Nothing is told."""
    assert (await preferences.patch({})).version == 0
    assert await told(context, "workspace:w1") == []


async def test_reset_is_a_patch_of_nulls(preferences, context):
    """The version goes on."""
    await preferences.patch({"a": 1, "b": {"c": 2}})
    state = await preferences.reset()
    assert (state.values, state.version) == ({}, 2)
    assert (await preferences.reset()).version == 2
    *_, event = await told(context, "workspace:w1")
    assert event["data"]["patch"] == {"a": None, "b": None}


async def test_there_is_room_for_so_many_fields(preferences):
    """Full is full, but what is there can change and go."""
    await preferences.patch({f"f{n}": n for n in range(128)})
    with pytest.raises(LimitExceeded):
        await preferences.patch({"one": "more"})
    await preferences.patch({"f0": "x"})
    state = await preferences.patch({"f0": None, "one": "more"})
    assert len(state.values) == 128


async def test_odd_names_are_only_names(preferences):
    """No name of a field reaches what the document keeps of itself."""
    odd = {"v": 1, "t": "x", ".v": 2, "a:b": 3, "ключ": 4, "{w2}": 5, "__proto__": {"x": 1}}
    state = await preferences.patch(odd)
    assert (state.values, state.version) == (odd, 1)
    assert (await preferences.get()).values == odd


async def test_writers_of_one_object_all_get_through(preferences, context):
    """They merge into the same field at the same time, and nothing is lost."""
    await asyncio.gather(*(preferences.patch({"shared": {f"k{n}": n}}) for n in range(20)))
    state = await preferences.get()
    assert state.values == {"shared": {f"k{n}": n for n in range(20)}}
    versions = [event["data"]["version"] for event in await told(context, "workspace:w1")]
    assert versions == list(range(1, 21))


async def test_a_patch_takes_few_commands(valkey, preferences):
    """Billed on some servers; one call brings all there is to know."""
    await preferences.patch({"a": 1, "b": 2}, op_id="x")
    expected = {"evalsha": 1, "hgetall": 1, "hmget": 1, "xadd": 1, "hset": 2, "publish": 1}
    for call, more in (
        (lambda: preferences.patch({"a": 2}), {}),
        (lambda: preferences.patch({"a": None}), {"hdel": 1}),
        (lambda: preferences.patch({"a": {"b": 1}}), {"hgetall": 2}),
        (lambda: preferences.patch({"b": 3}, op_id="y"), {"exists": 1, "set": 1}),
    ):
        before = calls(valkey)
        await call()
        grown = {name: n - before.get(name, 0) for name, n in calls(valkey).items()}
        grown.pop("pexpire", None)
        assert {name: n for name, n in grown.items() if n} == expected | more
